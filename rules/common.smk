# The reader of the configuration (zagreus/workflow), bound to the names that the rules use.
import sys

from snakemake_interface_executor_plugins.settings import DeploymentMethod

from zagreus.errors import InputError
from zagreus.workflow.arguments import dumps
from zagreus.workflow.cluster import growing
from zagreus.workflow.shell import bound, pass_environment, shell_prefix
from zagreus.workflow.workflow import Workflow

try:
    reader = Workflow.read(config, workflow.configfiles)
except InputError as error:
    sys.exit(f"error: {error}")

# A part for each kind of rule.
models, packages, sources, tokenizer = (
    reader.models,
    reader.packages,
    reader.sources,
    reader.tokenizer,
)
adopted, pretraining, posttraining = reader.adopted, reader.pretraining, reader.posttraining
evaluation, contamination, reporting = reader.evaluation, reader.contamination, reader.report
exports, publishing = reader.exports, reader.publishing
plan, cluster, images, ladder = reader.plan, reader.cluster, reader.images, reader.ladder

# Almost every rule asks for these.
path, longer = reader.paths.path, cluster.longer
image, container, python = images.image, images.container, images.python

# What every job's image and shell line begin with.
settings = workflow.deployment_settings
settings.apptainer_args = bound(settings.apptainer_args, reader.outside, config["torch"])
shell.prefix(shell_prefix(config, workflow.basedir, settings.apptainer_args))
pass_environment()

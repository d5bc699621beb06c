# Zagreus: a family of small bilingual language models, from raw text to score tables.
#
#   snakemake --profile profiles/local all --configfile config/demo.yaml     the whole pipeline at laptop size (`make demo`)
#   snakemake --profile slurm all                                           the published family (config.yaml)
#   snakemake -n all                                                        what would run

import gc
import sys

from snakemake.utils import min_version

min_version("9.27")

# A DAG is many small objects that stay. Looking for garbage after each 700 of them, Python's default, is an eighth of a dry-run's time.
gc.set_threshold(200_000, 50, 100)

# A configuration is whole: config.yaml is read only where no other file is given, never beneath one.
sys.path.insert(0, workflow.basedir)

from zagreus.config.check import check_config
from zagreus.errors import InputError
from zagreus.export.formats import FORMATS
from zagreus.live.events import record_start
from zagreus.config.long_form import long_form
from zagreus.config.yaml_file import read_mapping

try:
    # Snakemake takes the last of two equal keys, and does not say where a slip is.
    for file in workflow.configfiles or ["config.yaml"]:
        read_mapping(file)
except InputError as error:
    sys.exit(f"error: {error}")

if "models" not in config:

    configfile: "config.yaml"


try:
    files = ", ".join(map(str, workflow.configfiles))
    config.update(long_form(config, files))
    check_config(config, files)
except InputError as error:
    sys.exit(f"error: {error}")


wildcard_constraints:
    source="[a-z][a-z0-9_]*",
    task=r"\d{5}",
    model="[a-z][a-z0-9.-]*",
    step=r"\d+",
    checkpoint="[a-z0-9]+",
    stage="sft|dpo|distill",
    suite="[a-z][a-z0-9_]*",
    dataset="[a-z][a-z0-9_]*",
    format="|".join(FORMATS),


include: "rules/common.smk"
include: "rules/images.smk"
include: "rules/fetch.smk"
include: "rules/clean.smk"
include: "rules/tokenize.smk"
include: "rules/preflight.smk"
include: "rules/pretrain.smk"
include: "rules/ladder.smk"
include: "rules/posttrain.smk"
include: "rules/evaluate.smk"
include: "rules/export.smk"
include: "rules/contamination.smk"
include: "rules/report.smk"
include: "rules/adopt.smk"
include: "rules/publish.smk"
include: "rules/track.smk"
include: "rules/plan.smk"
include: "rules/targets.smk"


# A workflow has one onstart: a second one would take the place of the first.
onstart:
    # Snakemake counts the jobs that start in a second, and looks at all ready jobs once more in
    # every second with each job that has ended: 12 % of a core in a run of 90 jobs, more in longer
    # ones. A profile says how many jobs run at a time.
    workflow.scheduler.job_rate_limiter = None
    try:
        reader.check_start(
            workflow,
            apptainer=DeploymentMethod.APPTAINER in settings.deployment_method,
            plan_only="plan" in sys.argv,
        )
    except InputError as error:
        sys.exit(f"error: {error}")
    record_start(workflow, config)

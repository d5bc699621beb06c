"""All that the rules ask of the configuration, in one object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zagreus.workflow.adopted import Adopted
from zagreus.workflow.cluster import Cluster
from zagreus.workflow.contamination import Contamination
from zagreus.workflow.evaluation import Evaluation
from zagreus.workflow.exports import Exports
from zagreus.workflow.images import Images
from zagreus.workflow.interface import Config
from zagreus.workflow.ladder import Ladder
from zagreus.workflow.models import Models
from zagreus.workflow.packages import Packages
from zagreus.workflow.paths import Paths
from zagreus.workflow.plan import Plan
from zagreus.workflow.posttraining import Posttraining
from zagreus.workflow.pretraining import Pretraining
from zagreus.workflow.publishing import Publishing
from zagreus.workflow.report import Report
from zagreus.workflow.shell import folders_to_bind
from zagreus.workflow.sources import Sources
from zagreus.workflow.start import check_cluster, check_images, make_folders, share_gpus
from zagreus.workflow.tokenizer import Tokenizer


@dataclass(frozen=True)
class Workflow:
    """The questions of the rules, a part for each kind of rule."""

    config: Config
    """The checked configuration."""
    outside: list[str]
    """Folders outside the repository that images must see."""
    paths: Paths
    """Folders of the run."""
    packages: Packages
    """The lock table of packages."""
    models: Models
    """Models and baselines."""
    sources: Sources
    """The section `sources`."""
    tokenizer: Tokenizer
    """The sections `tokenizer` and `shards`."""
    adopted: Adopted
    """The section `adopt`."""
    pretraining: Pretraining
    """The entries `pretrain`."""
    ladder: Ladder
    """The section `ladder`."""
    posttraining: Posttraining
    """The section `chat` and the entries `posttrain`."""
    evaluation: Evaluation
    """Evaluation data, suites and prompts."""
    exports: Exports
    """The section `exports`."""
    contamination: Contamination
    """The jobs that search benchmarks in the text."""
    publishing: Publishing
    """The jobs that publish and track."""
    report: Report
    """The jobs of tables, figures and report."""
    plan: Plan
    """The questions of `bin/zagreus plan`."""
    cluster: Cluster
    """The section `cluster`."""
    images: Images
    """Images or virtual environments."""

    @classmethod
    def read(cls, config: Config, files: Iterable[str | Path]) -> Workflow:
        """Make the parts from a checked configuration, the lock tables and this machine's platform.

        Args:
            config: the checked configuration.
            files: the files that it was read from.

        Raises:
            InputError: an unknown package, no base image, or a path that no image can be given.
        """
        paths, packages, models = Paths(config["pathvars"]), Packages.read(config), Models(config)
        sources, adopted = Sources.read(config, packages), Adopted(config, paths, models)
        evaluation = Evaluation(config, models, packages)
        exports = Exports(config, paths, evaluation)
        contamination = Contamination(config, models, sources, adopted, evaluation)
        return cls(
            config=config,
            outside=folders_to_bind(config, files),
            paths=paths,
            packages=packages,
            models=models,
            sources=sources,
            tokenizer=Tokenizer(config, sources),
            adopted=adopted,
            pretraining=Pretraining(config, paths, models, adopted),
            ladder=Ladder(config, paths, models),
            posttraining=Posttraining(config, paths, models, packages),
            evaluation=evaluation,
            contamination=contamination,
            exports=exports,
            publishing=Publishing(config, paths, models),
            report=Report(config, models, evaluation, exports, contamination),
            plan=Plan(config, paths, models, adopted, evaluation, contamination),
            cluster=Cluster(config, paths, models),
            images=Images.read(config, paths),
        )

    def check_start(self, workflow: Any, apptainer: bool, plan_only: bool) -> None:
        """Check everything that a run needs, before its first job.

        Args:
            workflow: Snakemake's workflow.
            apptainer: whether Snakemake was told to use Apptainer.
            plan_only: whether the target is the plan, which has no limits.

        Raises:
            InputError: what is missing or does not fit.
        """
        executor = workflow.executor_plugin.name
        make_folders(self.outside)
        check_images(self.images, apptainer)
        if executor == "local":  # nor with --touch, which runs nothing
            share_gpus(self.config, workflow)
        if not plan_only:
            self.plan.check_limits()
        if executor == "slurm":
            check_cluster(workflow)

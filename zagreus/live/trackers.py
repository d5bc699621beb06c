"""Trackers of trainings: each writes scalars in its own offline format, by its own package.

The packages come from the user's own environment; nothing else of this repository needs them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from zagreus.errors import InputError

Points = Sequence[Mapping[str, float]]


class Tracker(Protocol):
    """Where scalars go."""

    def write(self, identity: str, name: str, points: Points) -> None:
        """Add points to a run; a run that is there goes on.

        Args:
            identity: of the run, the same for every call of one training.
            name: what people see.
            points: in the order of their steps, each with `step`.
        """


class Tensorboard:
    """`tensorboard --logdir FOLDER`: one folder of event files a run."""

    package = "tensorboard"

    def __init__(self, folder: Path, project: str) -> None:
        """Remember the folder."""
        self.folder = folder
        self._writer = _package("tensorboard.summary.writer.event_file_writer", self.package)
        self._event = _package("tensorboard.compat.proto.event_pb2", self.package)
        self._summary = _package("tensorboard.compat.proto.summary_pb2", self.package)

    def write(self, identity: str, name: str, points: Points) -> None:
        """Add an event file to the run's folder."""
        writer = self._writer.EventFileWriter(str(self.folder / name))
        for point in points:
            values = [
                self._summary.Summary.Value(tag=key, simple_value=value)
                for key, value in point.items()
                if key != "step"
            ]
            summary = self._summary.Summary(value=values)
            event = self._event.Event(step=int(point["step"]), summary=summary)
            writer.add_event(event)
        writer.close()


class Wandb:
    """Offline runs of Weights & Biases; `wandb sync FOLDER/wandb/offline-run-*` sends them."""

    package = "wandb"

    def __init__(self, folder: Path, project: str) -> None:
        """Set the offline mode, unless the environment says `online`."""
        if os.environ.get("WANDB_MODE") != "online":
            # An environment for jobs says `disabled`: nothing would be written, without a word.
            os.environ["WANDB_MODE"] = "offline"
        os.environ.setdefault("WANDB_SILENT", "true")
        self.folder, self.project = folder, project
        self._wandb = _package(self.package, self.package)

    def write(self, identity: str, name: str, points: Points) -> None:
        """Go on with the run of this id."""
        settings = self._wandb.Settings(
            x_disable_stats=True, x_disable_meta=True, console="off", disable_git=True
        )
        run = self._wandb.init(
            project=self.project,
            dir=str(self.folder),
            id=identity,
            name=name,
            resume="allow" if os.environ["WANDB_MODE"] == "online" else None,
            settings=settings,
        )
        for point in points:
            values = {key: value for key, value in point.items() if key != "step"}
            run.log(values, step=int(point["step"]))
        run.finish()


class Mlflow:
    """MLflow's file store: `mlflow ui --backend-store-uri FOLDER`; or the server of
    `MLFLOW_TRACKING_URI`.
    """

    package = "mlflow"

    def __init__(self, folder: Path, project: str) -> None:
        """Find or make the experiment."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow = _package(self.package, self.package)
        self._entities = _package("mlflow.entities", self.package)
        address = os.environ.get("MLFLOW_TRACKING_URI") or folder.absolute().as_uri()
        self._client = mlflow.MlflowClient(tracking_uri=address)
        known = self._client.get_experiment_by_name(project)
        self._experiment = known.experiment_id if known else self._client.create_experiment(project)

    def write(self, identity: str, name: str, points: Points) -> None:
        """Go on with the run that has this identity as a tag."""
        runs = self._client.search_runs([self._experiment], f"tags.identity = '{identity}'")
        run = (
            runs[0].info.run_id
            if runs
            else self._client.create_run(
                self._experiment, run_name=name, tags={"identity": identity}
            ).info.run_id
        )
        metrics = [
            self._entities.Metric(key, value, int(point["step"]), int(point["step"]))
            for point in points
            for key, value in point.items()
            if key != "step"
        ]
        for start in range(0, len(metrics), 1000):  # a request's limit
            self._client.log_batch(run, metrics=metrics[start : start + 1000])
        self._client.set_terminated(run)


class Trackio:
    """Trackio's SQLite files; `TRACKIO_DIR=FOLDER trackio show` shows them."""

    package = "trackio"

    def __init__(self, folder: Path, project: str) -> None:
        """Set the folder before the package looks for it."""
        os.environ["TRACKIO_DIR"] = str(folder.absolute())
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        self.project = project
        self._storage = _package("trackio.sqlite_storage", self.package).SQLiteStorage

    def write(self, identity: str, name: str, points: Points) -> None:
        """Add the points, all at once: Trackio's own logger sends them in the background."""
        self._storage.bulk_log(
            project=self.project,
            run=name,
            metrics_list=[
                {key: value for key, value in point.items() if key != "step"} for point in points
            ],
            steps=[int(point["step"]) for point in points],
        )


TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {
    "tensorboard": Tensorboard,
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": Mlflow,
}


def _package(name: str, package: str) -> Any:
    """Import a part of a tracker.

    Raises:
        InputError: this Python does not have the package, or the package does not start.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"no {error.name} in this Python; install {package} in an environment of your own "
            f"(python3 -m venv ENV; ENV/bin/pip install {package}) and name it: "
            "--python ENV/bin/python"
        ) from None
    except Exception as error:
        raise InputError(f"{package} does not start here ({error!r})"[:300]) from None

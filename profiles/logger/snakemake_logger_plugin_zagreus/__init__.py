"""What a run started by bin/zagreus says: how far it is, the time left, and what failed.

Found by Snakemake by the package's name.

Dry-runs, and runs with -p, --verbose, --debug-dag or --quiet, keep Snakemake's own messages; so
does the rest of a run in which this fails.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from logging import INFO, LogRecord

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase

from zagreus.live.events import current

from .event_lines import EventLines
from .recorder import record_event
from .reference import read_reference
from .terminal import Screen

REFRESH = 2.0  # seconds between two drawings of the live block
SILENCE = 120.0  # seconds after which a plain log is told that the run goes on


class LogHandler(LogHandlerBase):
    """Tells a run's events: in a live block on a terminal, else in one line per finished job."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Choose between the own display and Snakemake's; begin to draw."""
        settings = self.common_settings
        self.theirs = ColorizingTextHandler(
            settings.nocolor, sys.stdout if settings.stdout else sys.stderr
        )
        self.theirs.setFormatter(DefaultFormatter(settings.quiet, settings.show_failed_logs))
        self.theirs.addFilter(
            DefaultFilter(
                settings.quiet,
                settings.debug_dag,
                settings.verbose,
                settings.dryrun,
                settings.printshellcmds,
            )
        )
        self.own = not (
            settings.dryrun
            or settings.quiet
            or settings.verbose
            or settings.debug_dag
            or settings.printshellcmds
        )
        self.closed = threading.Event()
        self.recording = True
        if self.own:
            self.screen = Screen(sys.stderr, colour=not settings.nocolor)
            self.event_lines = EventLines(read_reference(sys.argv[1:]))
            threading.Thread(target=self._draw_on, daemon=True).start()

    def emit(self, record: LogRecord) -> None:
        """Tell one event and record the event."""
        self._tell(record)
        self._record(record)

    def _tell(self, record: LogRecord) -> None:
        """Show one event. An error here ends this display, never the run or its messages."""
        if self.own and record.levelno >= INFO:
            try:
                for line, style in self.event_lines.lines(record, every_job=not self.screen.live):
                    self.screen.write(line, style)
                self._draw()
                return
            except Exception as error:
                self._give_up(error)
        if self.theirs.filter(record):
            self.theirs.emit(record)

    def close(self) -> None:
        """Say how the run ended; called more than once."""
        self.acquire()
        try:
            if self.own and not self.closed.is_set():
                for line, style in self.event_lines.end():
                    self.screen.write(line, style)
        except Exception as error:
            self._give_up(error)
        finally:
            if not self.closed.is_set() and (log := current()) is not None:
                log.append("end")
            self.closed.set()
            self.release()
        super().close()

    def _record(self, record: LogRecord) -> None:
        """Append the event to the run's file, which the live page reads."""
        log = current()
        if log is not None and self.recording:
            try:
                left = self.event_lines.estimate.left(record.created) if self.own else None
                record_event(log, record, left[0] if left else None)
            except Exception as error:  # a record of another form: the run goes on
                self.recording = False
                print(f"warning: no further events are recorded ({error!r})", file=sys.stderr)

    def _draw(self) -> None:
        """Draw the live block anew; in a plain log break a long silence."""
        now = time.time()
        if self.screen.live:
            self.screen.draw(self.event_lines.block(now))
        elif (
            self.event_lines.running
            and now - max(self.screen.written, self.event_lines.since) > SILENCE
        ):
            for line in self.event_lines.block(now):
                self.screen.write(line)

    def _draw_on(self) -> None:
        while not self.closed.wait(REFRESH):
            self.acquire()
            try:
                if self.own and not self.closed.is_set():
                    self._draw()
            except Exception as error:
                self._give_up(error)
            finally:
                self.release()

    def _give_up(self, error: Exception) -> None:
        self.own = False
        with contextlib.suppress(OSError):  # where the terminal is gone the run goes on without
            print(
                f"\nno progress display ({error!r}); Snakemake's own messages follow",
                file=sys.stderr,
            )

#!/bin/sh
# Print the path of the Python that the set-up uses: a CPython from 3.11 to 3.14 with venv and ensurepip.
#
#   scripts/setup/find_python.sh [apptainer|venv]
#
# PYTHON=COMMAND names one; else the one that .tools/venv was made with, else the newest that serves. With `venv` (jobs without images)
# 3.11 comes first, for which alone a CPU build of torch is locked.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP

# Prints VERSION LACK PATH. LACK is `-`, or what is missing. A pyenv shim that is not active prints nothing.
probe='
import sys
lack = "-"
version = "%d.%d" % sys.version_info[:2]
if sys.implementation.name != "cpython":
    lack = sys.implementation.name
elif not ((3, 11) <= sys.version_info[:2] <= (3, 14)):
    lack = "version"
else:
    import sysconfig
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        lack = "free-threaded"
    for name in ("ensurepip", "venv"):
        try:
            __import__(name)
        except ImportError:
            lack = name
    if lack == "-" and sys.version_info[:2] == (3, 14):
        import os, shutil
        if not shutil.which("cc") and not shutil.which("gcc"):
            lack = "compiler"
        elif not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
            lack = "headers"
print(version, lack, getattr(sys, "_base_executable", None) or sys.executable)
'

# What to do about a lack: remedy VERSION LACK PATH
remedy() {
    case $2 in
        version) echo "$3 is Python $1, expected 3.11 to 3.14" ;;
        ensurepip | venv) echo "$3 (Python $1) has no module $2: install it (Debian, Ubuntu: apt install python$1-venv)" ;;
        compiler | headers)
            echo "$3 (Python $1) needs a C compiler and Python.h for one package without a wheel (apt install gcc python$1-dev)" ;;
        *) echo "$3 is $2, expected CPython 3.11 to 3.14" ;;
    esac
}

ways="apt install python3-venv; dnf install python3.12; module load python; uv python install 3.13"
another="or name another one: make setup PYTHON=/path/to/python3.12"

if [ -n "${PYTHON:-}" ]; then
    found=$("$PYTHON" -I -c "$probe" 2>/dev/null | head -n 1)
    if [ -z "$found" ]; then
        echo "error: PYTHON=$PYTHON: it does not run, expected a Python from 3.11 to 3.14" >&2
        exit 2
    fi
    rest=${found#* }
    if [ "${rest%% *}" != - ]; then
        echo "error: PYTHON=$PYTHON: $(remedy "${found%% *}" "${rest%% *}" "${rest#* }"); $another" >&2
        exit 2
    fi
    echo "${rest#* }"
    exit
fi

made=$(sed -n 's/^executable = //p' "$root/.tools/venv/pyvenv.cfg" 2>/dev/null)
names="python3.14 python3.13 python3.12 python3.11"
[ "${1:-}" = venv ] && names="python3.11 python3.14 python3.13 python3.12"
lacking=
for name in $made $names python3 python; do
    command -v "$name" >/dev/null 2>&1 || continue
    found=$("$name" -I -c "$probe" 2>/dev/null | head -n 1)
    [ -n "$found" ] || continue
    version=${found%% *}
    rest=${found#* }
    lack=${rest%% *}
    path=${rest#* }
    if [ "$lack" = - ]; then
        echo "$path"
        exit
    fi
    # One that would do with a package more is better advice than one that is too old.
    if [ -z "$lacking" ] || { [ "${wrong:-}" = version ] && [ "$lack" != version ]; }; then
        lacking=$(remedy "$version" "$lack" "$path")
        wrong=$lack
    fi
done
if [ -n "$lacking" ] && [ "$wrong" != version ]; then
    echo "error: $lacking; $another" >&2
else
    echo "error: no Python 3.11 to 3.14 here${lacking:+ ($lacking)}; get one ($ways); $another" >&2
fi
exit 2

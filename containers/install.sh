#!/bin/sh
# Inside a build: make /opt/venv from the wheelhouse at /wheels and the locks at /opt/locks.
set -e
python3 -m venv /opt/venv
install="/opt/venv/bin/python -m pip install --no-index --find-links /wheels --require-hashes --no-deps --no-build-isolation --no-cache-dir --no-compile --root-user-action ignore"
$install --requirement /opt/locks/build.lock
echo "installing $(grep --count == /opt/locks/image.lock) packages (one to four minutes) ..."
$install --quiet --requirement /opt/locks/image.lock
echo "compiling (about a minute) ..."
# Hash-based, never checked again: the image is read-only, and its bytes do not depend on the time of the build.
# Left out is a third of the text, which no job imports: tests, the models of transformers but Llama, pip. Should a job import such a
# file after all, Python compiles it in memory.
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/tests?/|/transformers/models/(?!auto/|llama/|[^/]*$)|/sympy/(physics|stats|combinatorics)/|/networkx/(algorithms|generators)/|/pip/' \
    /opt/venv/lib > /dev/null || true

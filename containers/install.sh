#!/bin/sh
# Inside a build: make /opt/venv from the wheelhouse at /wheels and the locks at /opt/locks.
set -e
python3 -m venv /opt/venv
/opt/venv/bin/python -m pip install --quiet --no-index --find-links /wheels --require-hashes --no-deps --no-build-isolation \
    --no-cache-dir --no-compile --root-user-action ignore --requirement /opt/locks/build.lock
echo "installing $(grep --count == /opt/locks/image.lock) packages (a minute or less) ..."
# Hard links from a cache in the same file system: each file is written once. uv takes half of pip's CPU time.
/opt/venv/bin/uv pip install --quiet --python /opt/venv/bin/python --no-config --offline --no-index --find-links /wheels \
    --require-hashes --no-deps --no-build-isolation --cache-dir /opt/uv-cache --link-mode hardlink --requirement /opt/locks/image.lock
rm -r /opt/uv-cache
# uv writes when it installed a package: an image's bytes do not depend on the time.
find /opt/venv/lib -name uv_cache.json -delete
find /opt/venv/lib -path '*.dist-info/RECORD' -exec sed -i '/uv_cache\.json/d' {} +
/opt/venv/bin/python -m pip uninstall --quiet --yes --root-user-action ignore uv # 60 MB that no job runs
echo "compiling (about a minute) ..."
# Hash-based, never checked again: the image is read-only, and its bytes do not depend on the time of the build.
# Left out is a third of the text, which no job imports: tests, the models of transformers but Llama, pip. Should a job import such a
# file after all, Python compiles it in memory.
/opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/tests?/|/transformers/models/(?!auto/|llama/|[^/]*$)|/sympy/(physics|stats|combinatorics)/|/networkx/(algorithms|generators)/|/pip/' \
    /opt/venv/lib > /dev/null || true

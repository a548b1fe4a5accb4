#!/bin/sh
# All benchmarks, with their peers in an environment of their own that sees flowhmr's packages.
set -eu
: "${PYTHON:=.venv/bin/python}" "${VENV:=.venv-bench}"
key=$(cksum < benchmarks/requirements.txt | cut -d' ' -f1)
if [ ! -e "$VENV/.ready-$key" ]; then
    "$PYTHON" -m venv "$VENV"
    site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    own=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    # Sees flowhmr and its torch; pip then does not fetch them again.
    echo "import site; site.addsitedir('$site')" > "$own/flowhmr-environment.pth"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r benchmarks/requirements.txt
    touch "$VENV/.ready-$key"
fi
for name in raster raster_gradient lbs flow flow_loss temporal synth; do
    echo "== benchmarks/$name.py"
    "$VENV/bin/python" "benchmarks/$name.py" --json "benchmarks/results/$name.json"
done

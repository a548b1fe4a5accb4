#!/bin/sh
# All benchmarks (run.py), with peers in an environment of their own that sees flowhmr's packages.
set -eu
: "${PYTHON:=.venv/bin/python}" "${VENV:=.venv-bench}"
here=$(dirname "$0")
case " $* " in *" --without-peers "*) exec "$PYTHON" "$here/run.py" "$@" ;; esac
key=$(cksum < "$here/requirements.txt" | cut -d' ' -f1)
if [ ! -e "$VENV/.ready-$key" ]; then
    "$PYTHON" -m venv "$VENV"
    site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    own=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    # Sees flowhmr and its torch; pip then does not fetch them again.
    echo "import site; site.addsitedir('$site')" > "$own/flowhmr-environment.pth"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$here/requirements.txt"
    touch "$VENV/.ready-$key"
fi
exec "$VENV/bin/python" "$here/run.py" "$@"

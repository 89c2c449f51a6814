#!/bin/sh
# Print the path of a Python that abmtools runs on, or say how to get one.
# Looks on PATH, then asks uv, then looks at pyenv's versions. PYTHON=... names one instead.

usable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 14))' \
        >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
    set -- python3.12 python3.13 python3 python \
        "$(uv python find --no-project '>=3.12,<3.14' 2>/dev/null)" \
        "$pyenv"/3.12.*/bin/python "$pyenv"/3.13.*/bin/python
fi

for candidate in "$@"; do
    if usable "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

echo "abmtools needs Python 3.12 or 3.13 with its venv module. Looked at ${PYTHON:-PATH, uv and pyenv}
and found none. Any one of these installs it:
    uv python install 3.12
    pyenv install 3.12
    sudo apt-get install python3.12-venv    (Debian and Ubuntu, where they have 3.12)
    conda env create -f environment.yml     (conda: see CONTRIBUTING.md)
If you have one elsewhere, name it:
    make book PYTHON=/path/to/python3.12" >&2
exit 1

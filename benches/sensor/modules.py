"""Makes 500 modules in 25 packages, compiled; or imports them."""

import compileall
import importlib
import pathlib
import sys

HERE = pathlib.Path("/bench/modules")
CODE = '''"""A module."""

LIMIT = {number}


class Thing{number}:
    """Something with a name."""

    def __init__(self, name, count=LIMIT):
        self.name = name
        self.count = count

    def __repr__(self):
        return f"Thing({{self.name!r}}, {{self.count}})"


def make(names):
    return [Thing{number}(name) for name in names]
'''

if sys.argv[1:] == ["make"]:
    for package in range(25):
        folder = HERE / f"package_{package}"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        for number in range(20):
            (folder / f"module_{number}.py").write_text(CODE.format(number=number))
    compileall.compile_dir(HERE, quiet=1)
else:
    sys.path.insert(0, str(HERE))
    for package in range(25):
        for number in range(20):
            importlib.import_module(f"package_{package}.module_{number}")

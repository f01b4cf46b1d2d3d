# Stands in for a built-in module: built-in modules cannot be changed, but sys.modules can name another object.
import sys


class Module:
    def __init__(self, base, without=(), **names):
        for name in dir(base):
            if name not in without and name != "__class__":
                setattr(self, name, getattr(base, name))
        for name, value in names.items():
            setattr(self, name, value)
        sys.modules[base.__name__] = self

    def __repr__(self):
        return "<module '%s'>" % self.__name__

# Stages of the data's way, one kind a module: a board imports only the kinds that its node file names.
#
# A stage has `.id`, `.sensor` (the number of the sensor whose windows it works on), `.settings` (what may be read and
# set while it runs: an object and the names of its attributes), and
#   run(sensor)   works on the window, or raises; its results go to the node's table of values from place `at` on
#   forget()      after a failure: its values are not known
#   records(t)    what it says for itself now and then


def open(config, node):
    # The stage of that part of node.json. Raises MidgeError, MemoryError.
    kind = config["use"]
    module = __import__("midge.stages." + kind, None, None, (kind,))
    return module.Stage(config, node)


class Base:
    def __init__(self, config, node, count):
        # count: how many values the stage has in the table.
        self.id = config["id"]
        self.sensor = config["sensor"]
        self.at = config["at"]
        self.values = node.values
        self._count = count
        self.settings = (None, ())

    def forget(self):
        for i in range(self.at, self.at + self._count):
            self.values[i] = None

    def about(self):
        # What the status tells of the stage.
        return {}

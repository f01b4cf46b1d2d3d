# Commands from the host: what a running node tells about itself, and what may be changed while it runs.
#
# Names of settings: <stage>.<parameter> (as in its params), <sensor>.rate_hz, sampling.threshold, sampling.normal_ms,
# sampling.alert_ms, monitor.interval_s. A change lasts until the node starts anew: the node file is what lasts.

import sys

from midge.errors import MidgeError


class Commands:
    def __init__(self, node):
        self._node = node
        self._known = {
            "get": self._get,
            "set": self._set,
            "start": self._start,
            "stop": self._stop,
            "status": self._status,
        }

    def answer(self, command):
        # The reply's value, for a link. Raises MidgeError.
        word = command["cmd"]
        if word not in self._known:
            what = "no command %s: use one of %s" % (word, ", ".join(sorted(self._known)))
            raise MidgeError("link.bad_command", what)
        return self._known[word](command)

    def _get(self, command):
        settings = self._settings()
        name = command.get("name")
        if name is None:
            return {name: getattr(*settings[name]) for name in settings}
        return getattr(*_find(settings, name))

    def _set(self, command):
        place = _find(self._settings(), command.get("name"))
        value = command.get("value")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
            raise MidgeError("link.bad_value", "the value of %s must be a number" % command["name"])
        if isinstance(getattr(*place), int) and value != int(value):
            raise MidgeError("link.bad_value", "the value of %s must be a whole number" % command["name"])
        try:
            _write(*place, value)
        except ValueError as error:
            raise MidgeError("link.bad_value", str(error))
        return getattr(*place)

    def _start(self, command):
        self._node.start()
        return True

    def _stop(self, command):
        self._node.stop()
        return True

    def _status(self, command):
        node = self._node
        return {
            "node": node.name,
            "platform": sys.platform,
            "machine": getattr(sys.implementation, "_machine", ""),
            "firmware": ".".join(str(n) for n in sys.implementation.version[:3]),
            "running": node.running,
            "clock_set": node.clock.is_set(),
            "uptime_ms": node.clock.uptime_ms(),
            "sensors": {s.id: _of_sensor(s) for s in node.sensors},
            "stages": {s.id: s.about() for s in node.stages},
            "disabled": node.disabled,
            "errors": node.monitor.errors,
            "update": node.update and node.update.about(),
            "lost": node.link.lost,
            "dropped": node.link.packer.dropped,
            "bad_lines": node.link.bad_lines,
        }

    def _settings(self):
        # name: (object, attribute)
        node = self._node
        found = {"monitor.interval_s": (node, "interval_s")}
        for sensor in node.sensors:
            if node.interval is None:
                found[sensor.id + ".rate_hz"] = (sensor, "rate_hz")
            if sensor.gates:
                found["sampling.threshold"] = (node, "threshold")
        if node.interval is not None:
            for name in ("normal_ms", "alert_ms"):
                found["sampling." + name] = (node.interval, name)
        for stage in node.stages:
            owner, names = stage.settings
            for name in names:
                if hasattr(owner, name):
                    found["%s.%s" % (stage.id, name)] = (owner, name)
        return found


def _find(settings, name):
    if name not in settings:
        raise MidgeError("link.unknown_setting", "no setting %s: use one of %s" % (name, ", ".join(sorted(settings))))
    return settings[name]


def _write(owner, name, value):
    # Owners that check a value, or act on it, have a method for that. No setting has negative values.
    if value < 0:
        raise ValueError("%s must not be below 0" % name)
    change = getattr(owner, "set_" + name, None)
    if change:
        change(value)
    else:
        setattr(owner, name, value)


def _of_sensor(sensor):
    found = {"state": sensor.state(), "unit": sensor.unit, "samples": sensor.index + sensor.count - sensor.fresh}
    found.update(sensor.sampler.stats())
    return found

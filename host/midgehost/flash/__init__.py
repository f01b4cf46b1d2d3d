"""Stock firmware for boards: images in the cache, and the ways to write one. A new way is one line here."""

from __future__ import annotations

from midgehost.flash.backend import Backend
from midgehost.flash.esptool import EsptoolBackend
from midgehost.flash.uf2 import Uf2Backend

BACKENDS: tuple[Backend, ...] = (Uf2Backend(), EsptoolBackend())

"""Random whole models at the corners of every operator, as machine code on every arch: equal at every operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from random_models import check_model

from midgehost.codegen import sim


@pytest.fixture(scope="module", params=sim.ARCHES)
def core(request: pytest.FixtureRequest) -> Iterator[sim.Core]:
    pytest.importorskip("unicorn")
    with sim.core(request.param) as made:
        yield made


def test_random_models(core: sim.Core) -> None:
    for seed in range(20):
        check_model(core, seed, plans=1)

"""A local server that speaks the three vendors' protocols: signatures, quotas, tasks and faults.

It shares no code with the clients in `beam_moderation.vendors`, so that the two cannot agree on an
error; that it is right is shown by the vendors' own SDKs, which work against it
(`tests/integration/test_official_sdks.py`).

```python
with emulator.serve("alibaba", emulator.Settings(calls_per_second=50)) as running:
    ...  # talk to running.url with the key testid, testsecret
    print(running.stats()["billed_units"])
```
"""

from beam_moderation.emulator.faults import Fault, FaultSpec, parse_faults, read_faults
from beam_moderation.emulator.server import Running, app, run, serve, spawn
from beam_moderation.emulator.settings import VENDORS, Settings
from beam_moderation.emulator.verdicts import Truth, failure, truth

__all__ = [
    "VENDORS",
    "Fault",
    "FaultSpec",
    "Running",
    "Settings",
    "Truth",
    "app",
    "failure",
    "parse_faults",
    "read_faults",
    "run",
    "serve",
    "spawn",
    "truth",
]

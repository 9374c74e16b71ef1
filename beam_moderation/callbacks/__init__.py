"""Results that vendors deliver: proved, stored durably, and only then taken; read by pipelines.

```
vendor ── POST ──> service ── proof: is it the vendor's? ── store ──> 200
                                                             │
pipeline <── inbox: a task's id, its result or nothing yet ──┘
```

The service needs the extra `callbacks`; the inbox of a pipeline does not.
"""

from beam_moderation.callbacks.inboxes import TopicInbox, open_inbox
from beam_moderation.callbacks.proofs import (
    CONFIRMATION_QUOTA,
    Checksum,
    Confirmation,
    Delivery,
    Proof,
    Refused,
)
from beam_moderation.callbacks.stores import Folder, Store, Topic, open_store

__all__ = [
    "CONFIRMATION_QUOTA",
    "Checksum",
    "Confirmation",
    "Delivery",
    "Folder",
    "Proof",
    "Refused",
    "Store",
    "Topic",
    "TopicInbox",
    "open_inbox",
    "open_store",
]

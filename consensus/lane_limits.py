"""The bounds and intervals of the lanes; `messages` bounds the messages, `backoff` growing waits.

A lane is one member's stream of batches. Its author is held by its own back-pressure to half of
what the other members are ready to store for it, because their committed cursor trails the
author's by a few blocks; an honest author therefore never sees a batch refused.
"""

from typing import Final

from msgspec import Struct

from consensus.messages import BATCHES_MAX_PER_REQUEST

UNCOMMITTED_BATCHES_MAX: Final = 512
"""Batches of one author that a member stores above that lane's committed cursor."""

UNCOMMITTED_SIZE_MAX_BYTES: Final = 128 << 20
"""Their bodies together."""

OWN_BACKLOG_BATCHES_MAX: Final = UNCOMMITTED_BATCHES_MAX // 2
"""Own batches above the own committed cursor, beyond which the author waits for commits."""

OWN_BACKLOG_SIZE_MAX_BYTES: Final = UNCOMMITTED_SIZE_MAX_BYTES // 2
"""Their bodies together."""

CHECKS_PENDING_MAX_PER_AUTHOR: Final = 64
"""Batches of one author that are with the workers at once; their bodies are in memory."""

RECHECKS_PENDING_MAX: Final = 16
"""Stored batches that are with the workers at once after a restart."""

LINKS_RETAINED_MAX: Final = 8_192
"""Headers kept in memory below the committed cursors, for peers that lag behind; shared evenly by
the lanes. About 1 KiB each. Peers that lag further fetch what their missed blocks name."""

FETCHES_IN_FLIGHT_MAX: Final = 16
"""Lanes of which links are being fetched at once, one request in flight for each; committed and
uncommitted links are counted apart, so that invented gaps cannot starve committed ones."""

FAILED_BATCHES_MAX_PER_LANE: Final = 4 * BATCHES_MAX_PER_REQUEST
"""Batches of one lane of which it is remembered whose copies failed their check. When full, none is
added: those asked for first, which a lane wants first again, are the ones that count."""

REBROADCAST_BATCHES_MAX: Final = 8
"""Newest uncertified batches that are repeated; a member that misses more asks for them."""

ACKS_PENDING_MAX_PER_MEMBER: Final = 16
"""Acknowledgements of one member that an author keeps; the newest sequences win."""

SERVED_SIZE_MAX_BYTES_PER_WINDOW: Final = 64 << 20
"""Batch bytes that one peer may pull within `SERVE_WINDOW_MS`."""

SERVE_WINDOW_MS: Final = 1000


class LanesConfig(Struct, frozen=True):
    """Intervals in milliseconds, and the bounds that deployments and tests may want smaller."""

    ack_interval_ms: int = 5
    """Least time between two acknowledgement signatures for one lane."""
    tick_ms: int = 25
    """How often waiting matters are looked at: retries, fetches, certificates to be archived."""
    fetch_delay_ms: int = 50
    """How long a missing link may still be on its way before it is fetched, unless committed."""
    fetch_retry_ms: int = 200
    """First wait for an answer; doubles with each further one (`backoff`)."""
    ack_retry_ms: int = 400
    """First wait for a certificate that covers what was acknowledged; doubles likewise."""
    rebroadcast_ms: int = 400
    """First wait of an author for the next certificate of its lane; doubles likewise."""
    reply_interval_ms: int = 50
    """Least time between two replies to repeated batches or acknowledgements of one member."""
    uncommitted_batches_max: int = UNCOMMITTED_BATCHES_MAX
    uncommitted_size_max_bytes: int = UNCOMMITTED_SIZE_MAX_BYTES
    own_backlog_batches_max: int = OWN_BACKLOG_BATCHES_MAX
    own_backlog_size_max_bytes: int = OWN_BACKLOG_SIZE_MAX_BYTES
    checks_pending_max_per_author: int = CHECKS_PENDING_MAX_PER_AUTHOR
    links_retained_max: int = LINKS_RETAINED_MAX
    fetches_in_flight_max: int = FETCHES_IN_FLIGHT_MAX
    served_size_max_bytes_per_window: int = SERVED_SIZE_MAX_BYTES_PER_WINDOW

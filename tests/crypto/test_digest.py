"""Digests: no two kinds of thing, and no two splits of the same bytes, share one."""

from hypothesis import given
from hypothesis import strategies as st

from crypto.digest import DIGEST_SIZE_BYTES, Domain, bulk_digest, digest

parts = st.lists(st.binary(max_size=10), max_size=4)


@given(first=parts, second=parts)
def test_boundaries_between_parts_cannot_move(first, second):
    same = digest(Domain.VOTE, *first) == digest(Domain.VOTE, *second)
    assert same == (first == second)


@given(part=st.binary(max_size=20))
def test_every_domain_gives_its_own_digest(part):
    digests = {digest(domain, part) for domain in Domain}
    digests |= {bulk_digest(domain, part) for domain in Domain}
    assert len(digests) == 2 * len(Domain)
    assert {len(each) for each in digests} == {DIGEST_SIZE_BYTES}


def test_no_domain_is_another_ones_prefix_once_encoded():
    names = [domain.value for domain in Domain]
    assert len(set(names)) == len(names)
    assert all(0 < len(name) < 256 for name in names)

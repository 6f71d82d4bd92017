"""The first committee: which member lists may start a chain.

Later committees come from elections; the first is given, so whoever starts the chain must be able
to trust it without trusting the others' key generation.
"""

from committee.committee import Committee, CommitteeError, Member
from crypto.scheme import IdentityScheme, SignatureScheme

GENESIS_EPOCH = 0


def form_genesis_committee(
    members: tuple[Member, ...], scheme: SignatureScheme, identity_scheme: IdentityScheme
) -> Committee:
    """Return the committee of epoch 0. Raises `CommitteeError` if the list cannot be one.

    Any one member may fail, so the others must hold a quorum: `T - power >= Q` for every member.
    That needs at least four members. Keys are distinct (`Committee`), and each consensus key comes
    with a proof of possession, without which its owner could forge certificates of all others.
    Identity and oracle keys are keys at all: a point with a small-order component verifies
    differently in other libraries, and members must agree on what it signed.
    """
    try:
        committee = Committee(GENESIS_EPOCH, members)
    except ValueError as error:
        raise CommitteeError(str(error)) from error
    spare_power = committee.total_power - committee.quorum_power
    for member in members:
        if member.power > spare_power:
            raise CommitteeError(
                f"without {member.name} (power {member.power} of {committee.total_power}) the"
                f" others hold no quorum of {committee.quorum_power}; four equal members are the"
                " smallest committee"
            )
        if not scheme.verify_possession(member.consensus_key, member.consensus_key_proof):
            raise CommitteeError(f"proof of possession of {member.name} does not verify")
        if not identity_scheme.is_public_key(member.identity_key):
            raise CommitteeError(f"the identity key of {member.name} is not an Ed25519 key")
        if not identity_scheme.is_public_key(member.oracle_key):
            raise CommitteeError(f"the oracle key of {member.name} is not an Ed25519 key")
    return committee

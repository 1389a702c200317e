from cni.host import KeptLeases
from ipam.leases import FILE


def test_lease_file_stays_open_from_call_to_call(tmp_path):
    kept = KeptLeases()
    with kept.open(tmp_path) as first, kept.open(tmp_path) as second:
        assert first is second
    kept.close()


def test_file_that_was_moved_away_is_made_anew_at_the_next_call(tmp_path):
    kept = KeptLeases()
    with kept.open(tmp_path) as before:
        (tmp_path / FILE).rename(tmp_path / "moved")
    with kept.open(tmp_path) as after:
        assert (after is before, (tmp_path / FILE).exists()) == (False, True)
    kept.close()

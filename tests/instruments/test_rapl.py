import pytest

from pytest_infergate.instruments import rapl
from pytest_infergate.instruments.device import Meter

RANGE = 262_143_328_850


class Powercap:
    """A folder as Linux has it, with packages and their parts."""

    def __init__(self, root):
        self.root = root

    def zone(self, number, name="package-0", joules=0.0, span=RANGE):
        folder = self.root / f"intel-rapl:{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name}\n")
        if span is not None:
            (folder / "max_energy_range_uj").write_text(f"{span}\n")
        self.counts(number, joules)

    def counts(self, number, joules):
        (self.root / f"intel-rapl:{number}" / "energy_uj").write_text(f"{round(joules * 1e6)}\n")

    def forget(self, number, file="energy_uj"):
        (self.root / f"intel-rapl:{number}" / file).unlink()

    def meter(self):
        return rapl.rapl_meter(self.root)


@pytest.fixture
def powercap(tmp_path):
    return Powercap(tmp_path / "powercap")


def test_a_package_counts_from_when_it_was_opened(powercap):
    powercap.zone(0, joules=1000)
    meter = powercap.meter()
    assert isinstance(meter, Meter)
    assert (meter.source, meter.scope, meter.state()) == ("rapl", "package", None)
    assert meter.joules() == 0
    powercap.counts(0, 1012.5)
    assert meter.joules() == pytest.approx(12.5)
    assert meter.joules() == pytest.approx(12.5)


def test_packages_add_up(powercap):
    powercap.zone(0, "package-0")
    powercap.zone(1, "package-1-die-0", joules=5)
    meter = powercap.meter()
    powercap.counts(0, 2)
    powercap.counts(1, 8)
    assert meter.joules() == pytest.approx(5)


def test_parts_of_a_package_and_other_domains_are_left_out(powercap):
    powercap.zone(0)
    for number, name in (("0:0", "core"), ("0:1", "dram"), ("1", "psys"), ("1:0", "package-9")):
        powercap.zone(number, name, joules=1)
    meter = powercap.meter()
    for number in ("0:0", "0:1", "1", "1:0"):
        powercap.counts(number, 100)
    powercap.counts(0, 3)
    assert meter.joules() == pytest.approx(3)


def test_a_counter_that_is_full_starts_again(powercap):
    powercap.zone(0, joules=262_143)
    meter = powercap.meter()
    powercap.counts(0, 1)
    assert meter.joules() == pytest.approx(1.328850)
    powercap.counts(0, 3)
    assert meter.joules() == pytest.approx(3.328850)
    powercap.counts(0, 262_143)
    powercap.counts(0, 2)
    assert meter.joules() == pytest.approx(262_145.657700)


def test_a_counter_that_falls_without_a_known_range_cannot_be_read(powercap):
    powercap.zone(0, joules=100, span=None)
    meter = powercap.meter()
    powercap.counts(0, 101)
    assert meter.joules() == pytest.approx(1)
    powercap.counts(0, 50)
    assert meter.joules() is None


def test_a_counter_above_its_range_cannot_be_read(powercap):
    powercap.zone(0, joules=100, span=10_000_000)
    meter = powercap.meter()
    powercap.counts(0, 50)
    assert meter.joules() is None


@pytest.mark.parametrize("text", ["", "garbage", "-5", "1.5"])
def test_what_is_no_number_cannot_be_read(powercap, text):
    powercap.zone(0)
    (powercap.root / "intel-rapl:0" / "energy_uj").write_text(text)
    assert powercap.meter() is None


def test_a_counter_that_goes_away_while_measuring(powercap):
    powercap.zone(0)
    powercap.zone(1, "package-1")
    meter = powercap.meter()
    powercap.forget(1)
    assert meter.joules() is None


def test_one_package_that_may_not_be_read_makes_all_useless(powercap):
    powercap.zone(0)
    powercap.zone(1, "package-1")
    powercap.forget(1)
    assert powercap.meter() is None


def test_root_s_own_file_is_no_meter(powercap, monkeypatch):
    powercap.zone(0)
    read = rapl.Path.read_text

    def refuse(path, **options):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, **options)

    monkeypatch.setattr(rapl.Path, "read_text", refuse)
    assert powercap.meter() is None


@pytest.mark.parametrize("name", ["core", "psys", ""])
def test_without_a_package_there_is_no_meter(powercap, name):
    powercap.zone(0, name)
    assert powercap.meter() is None


def test_a_zone_without_a_name_is_left_out(powercap):
    powercap.zone(0)
    powercap.forget(0, "name")
    assert powercap.meter() is None


def test_a_machine_without_rapl(tmp_path):
    assert rapl.rapl_meter(tmp_path / "none") is None


def test_resting_is_sleeping():
    naps = []
    rapl.RaplMeter([], naps.append).rest(0.7)
    assert naps == [0.7]

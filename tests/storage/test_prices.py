"""Tables of prices: ours, the user's, and catalogues of others, which are doubted."""

import csv
import sys
import types
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_infergate.core.domain import hardware_names, instance_types
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.errors import StorageError
from pytest_infergate.storage import price_catalogues, prices

HEADER = "provider,region,name,vcpus,usd_per_hour,as_of"
ROW = "aws,us-east-1,c7i.xlarge,4,0.1785,2026-07-20"


@pytest.fixture
def table(tmp_path):
    """Write a table, and give its path."""

    def write(*lines, name="prices.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def refused(path, read=prices.read_prices):
    with pytest.raises(StorageError) as caught:
        read(path)
    return str(caught.value).removeprefix(f"{path}: ")


def codes(notes):
    return [note.code for note in notes]


def said(note, path):
    return str(note).replace(str(path), path.name)


# Our own table


def test_our_own_table_is_sound():
    instances, notes = prices.load_prices()
    assert notes == ()
    assert len({(one.provider, one.region, one.name) for one in instances}) == len(instances) >= 25
    for one in instances:
        assert one.source
        assert one.spot_usd_per_hour is None or one.spot_usd_per_hour < one.usd_per_hour
        assert 0 < one.usd_per_hour / max(1, one.accelerator_count) < 20
        assert one.accelerator_count == 0 or hardware_names.accelerator_model(one.accelerator).model


def test_our_own_table_has_what_people_rent():
    instances, _ = prices.default_prices()
    names = {one.name for one in instances}
    assert {"c7i.xlarge", "c7a.xlarge", "c7g.xlarge", "c8g.xlarge", "m7i.xlarge"} <= names
    assert {"n2-standard-4", "c3-standard-4", "Standard_D4s_v5"} <= names
    accelerators = {one.accelerator for one in instances}
    assert {
        "T4",
        "L4",
        "A10G",
        "L40S",
        "A100-40GB",
        "A100-80GB",
        "H100",
        "H200",
        "B200",
        "MI300X",
        "A6000",
    } <= accelerators
    assert {one.provider for one in instances} >= {"aws", "gcp", "azure", "lambda", "nebius", "runpod"}


def test_prices_as_published():
    for name, price, spot, as_of in [
        ("aws/c7i.xlarge", 0.1785, None, date(2026, 7, 20)),
        ("aws/g6e.xlarge", 1.861, 0.9154, date(2026, 7, 20)),
        ("gcp/g2-standard-4", 0.76, 0.23, date(2026, 6, 23)),
        ("azure/Standard_NC24ads_A100_v4", 3.673, None, date(2026, 6, 18)),
        ("lambda/gpu_1x_h100_sxm5", 4.29, None, None),
        ("aws/inf2.xlarge", 0.7582, None, date(2026, 7, 20)),
        ("aws/p6-b200.48xlarge", 113.9328, None, date(2026, 7, 20)),
        ("azure/Standard_ND96isr_MI300X_v5", 48.0, None, date(2026, 6, 18)),
        ("lambda/gpu_1x_a6000", 1.09, None, None),
        ("runpod/1x_A100-80GB_SECURE", 1.39, None, None),
    ]:
        one = instance_types.find_instance(prices.default_prices()[0], name)
        assert (one.usd_per_hour, one.spot_usd_per_hour, one.as_of) == (price, spot, as_of), (
            name,
            price,
            spot,
            as_of,
        )


def test_our_own_table_is_in_the_form_that_is_written(tmp_path):
    instances, _ = prices.default_prices()
    prices.write_prices(tmp_path / "out.csv", instances)
    ours = Path(prices.__file__).parents[1] / "data" / "prices.csv"
    with ours.open(newline="") as one, (tmp_path / "out.csv").open(newline="") as other:
        before, after = list(csv.reader(one)), list(csv.reader(other))
    assert before[0] == after[0] == list(prices.CSV_COLUMNS)
    assert sorted(before) == sorted(after)


# The user's table


def test_a_row_is_read(table):
    path = table(
        "provider,region,name,vcpus,memory_gib,accelerator,accelerator_count,cpu_model,usd_per_hour,"
        "spot_usd_per_hour,as_of,source",
        'lab, cellar ,"box, the big one",16,64,L4,2,AMD 7R13,1.5,0.5,2026-01-02,invoice',
    )
    assert prices.read_prices(path) == (
        (
            Instance(
                provider="lab",
                region="cellar",
                name="box, the big one",
                vcpus=16,
                memory_gib=64.0,
                accelerator="L4",
                accelerator_count=2,
                cpu_model="AMD 7R13",
                usd_per_hour=1.5,
                spot_usd_per_hour=0.5,
                as_of=date(2026, 1, 2),
                source="invoice",
            ),
        ),
        (),
    )


def test_what_is_not_said_is_absent(table):
    ((one,), notes) = prices.read_prices(table("\ufeff" + HEADER, "", ROW, ",,,,,"))
    assert (one.memory_gib, one.accelerator, one.accelerator_count, one.cpu_model) == (None, None, 0, None)
    assert (one.spot_usd_per_hour, one.source, notes) == (None, "", ())


def test_an_accelerator_alone_is_one(table):
    ((one,), _) = prices.read_prices(table(HEADER + ",accelerator", ROW + ",L4"))
    assert (one.accelerator, one.accelerator_count) == ("L4", 1)


def test_columns_come_in_any_order_and_case(table):
    path = table("AS_OF,USD_per_hour,name,region,provider,vCPUs", "2026-07-20,1e-1,x,r,p,2")
    ((one,), _) = prices.read_prices(path)
    assert (one.full_name, one.usd_per_hour, one.vcpus) == ("p/x", 0.1, 2)


def test_a_file_that_is_no_table_is_refused(table, snapshot):
    files = {
        "empty": [""],
        "semicolons": [HEADER.replace(",", ";"), ROW.replace(",", ";")],
        "a column twice": [HEADER + ",name", ROW + ",x"],
        "prices in euros": [HEADER.replace("usd", "eur"), ROW],
        "spot prices in euros": [HEADER + ",spot_eur_per_hour", ROW + ",0.1"],
        "an unknown column": [HEADER.replace("usd_per_hour", "usd_per_hours"), ROW],
        "a column that is missing": [HEADER.removesuffix(",as_of"), ROW.removesuffix(",2026-07-20")],
        "a decimal comma": [HEADER, ROW.replace("0.1785", "0,1785")],
        "a row that is too short": [HEADER, ROW, "aws"],
        "an instance twice": [HEADER, ROW, "", ROW.replace("0.1785", "0.2")],
        "quotes within a cell": [HEADER, '"aws"x,r,n,4,1,2026-07-20'],
    }
    assert {name: refused(table(*lines)) for name, lines in files.items()} == snapshot


def test_a_cell_that_cannot_be_is_refused(table, snapshot):
    usd = (
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "0.0",
        "$0.2",
        "free",
        "1_0",
        "1e999",
        "1.2.3",
        "½",
        "1e7",
        "",
        "5e-324",
    )
    cells = [
        *(("0.1785", text) for text in usd),
        *((",4,", f",{text},") for text in ("", "1234567890", "0", "4.5", "-4", "٤")),
        *(("aws", ""), ("us-east-1", "  "), ("c7i.xlarge", "")),
        *(("2026-07-20", text) for text in ("20.7.2026", "2026-02-30", "2026-13-45", "20260720")),
    ]
    rows = [ROW.replace(before, after, 1) for before, after in cells]
    assert {row: refused(table(HEADER, row)) for row in rows} == snapshot


def test_an_optional_cell_that_cannot_be_is_refused(table, snapshot):
    header = HEADER + ",accelerator,accelerator_count,spot_usd_per_hour"
    cells = (",,nan", ",,1e300", ",,1e10", ",,5e-324", "L4,0,", ",2,", "L4,x,")
    assert {each: refused(table(header, f"{ROW},{each}")) for each in cells} == snapshot


def test_a_file_that_cannot_be_read(tmp_path):
    assert str(tmp_path / "no.csv") in refused(tmp_path / "no.csv")
    with pytest.raises(StorageError):
        prices.read_prices(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"name\xff")
    assert "byte 4" in refused(tmp_path / "x.csv")


def test_a_file_that_is_too_large(table, monkeypatch):
    path = table(HEADER, ROW)
    prices.read_prices(path)
    monkeypatch.setattr(prices, "MAX_TABLE_BYTES", 10)
    assert "10 B" in refused(path)


def test_a_spot_price_above_the_one_on_demand_is_dropped(table, snapshot):
    path = table(
        HEADER + ",spot_usd_per_hour",
        ROW + ",0.1786",
        ROW.replace("c7i", "c8i") + ",0.1785",
        ROW.replace("c7i", "c9i") + ",0.2",
    )
    instances, (note,) = prices.read_prices(path)
    assert [one.spot_usd_per_hour for one in instances] == [None, 0.1785, None]
    assert note.code == "spot-dropped"
    assert said(note, path) == snapshot


def test_the_users_row_wins(table):
    path = table(HEADER, ROW.replace("0.1785", "0.1"), ROW.replace("us-east-1", "eu-west-1"))
    instances, notes = prices.load_prices([path])
    assert len(instances) == len(prices.default_prices()[0]) + 1
    assert [one.usd_per_hour for one in instances if one.name == "c7i.xlarge"] == [0.1, 0.1785]
    assert notes == ()


def test_of_two_tables_the_later_wins(table):
    paths = [table(HEADER, ROW.replace("0.1785", text), name=f"{text}.csv") for text in ("0.3", "0.4")]
    instances, _ = prices.load_prices(paths)
    assert [one.usd_per_hour for one in instances if one.name == "c7i.xlarge"] == [0.4]


def test_prices_of_one_accelerator_far_apart_are_doubted(table, snapshot):
    path = table(HEADER + ",accelerator", "aws,eu-west-1,g6.xlarge,4,1.7,2026-07-20,L4")
    _, notes = prices.load_prices([path])
    assert codes(notes) == ["prices-doubtful"]
    assert said(notes[0], path) == snapshot


# Writing


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: text == text.strip()
)
written = st.builds(
    Instance,
    provider=names,
    region=names,
    name=names,
    vcpus=st.integers(1, 512),
    memory_gib=st.none() | st.floats(0.5, 4096),
    cpu_model=st.none() | names,
    usd_per_hour=st.floats(0.01, 100),
    spot_usd_per_hour=st.none() | st.floats(0.0001, 0.01),
    as_of=st.none() | st.dates(),
    source=names,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    database=None,
    deadline=None,
)
@given(st.lists(written, max_size=4, unique_by=lambda one: (one.provider, one.region, one.name)))
def test_what_is_written_is_read(tmp_path, instances):
    path = tmp_path / "out.csv"
    prices.write_prices(path, instances)
    found, notes = prices.read_prices(path)
    assert notes == ()
    assert [(one.provider, one.region, one.name) for one in found] == sorted(
        (one.provider, one.region, one.name) for one in instances
    )
    by_name = {(one.provider, one.region, one.name): one for one in instances}
    for one in found:
        before = by_name[one.provider, one.region, one.name]
        assert (one.cpu_model, one.as_of, one.source) == (before.cpu_model, before.as_of, before.source)
        assert one.usd_per_hour == pytest.approx(before.usd_per_hour, rel=1e-9)
        assert one.spot_usd_per_hour == (
            None if before.spot_usd_per_hour is None else pytest.approx(before.spot_usd_per_hour, rel=1e-9)
        )


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        prices.write_prices(tmp_path / "file" / "out.csv", prices.default_prices()[0])


# Catalogues of others


GPUHUNT = "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size"


def test_a_catalogue_of_offers(table):
    path = table(
        GPUHUNT,
        "g6.xlarge,us-east-1,0.8048,4,16.0,1,L4,24.0,False,",
        "g6.xlarge,us-east-1,0.31,4,16.0,1,L4,24.0,True,",
        "g6.xlarge,us-east-1,0.29,4,16.0,1,L4,24.0,True,",
        "p4de.24xlarge,us-east-1,27.4,96,1152.0,8,A100,80.0,False,100",
        "c7i.48xlarge,eu-west-1,8.6,192,384.0,0,,,False,",
        name="aws.csv",
    )
    instances, notes = price_catalogues.import_catalog(path, as_of="2026-07-01")
    shared = {"provider": "aws", "as_of": date(2026, 7, 1), "source": "aws.csv"}
    assert instances == (
        Instance(
            region="eu-west-1", name="c7i.48xlarge", vcpus=192, memory_gib=384.0, cpu_model="Intel 8488C",
            usd_per_hour=8.6, **shared,
        ),
        Instance(
            region="us-east-1", name="g6.xlarge", vcpus=4, memory_gib=16.0, accelerator="L4", accelerator_count=1,
            cpu_model="AMD 7R13", usd_per_hour=0.8048, spot_usd_per_hour=0.29, **shared,
        ),
        Instance(
            region="us-east-1", name="p4de.24xlarge", vcpus=96, memory_gib=1152.0, accelerator="A100-80GB",
            accelerator_count=8, cpu_model="Intel", usd_per_hour=27.4, **shared,
        ),
    )  # fmt: skip
    assert notes == ()


def test_a_catalogue_of_skypilot(table):
    path = table(
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,AvailabilityZone",
        "gpu_1x_h100_pcie,H100,1.0,26.0,200.0,3.29,,us-east-1,a",
        "m7i.xlarge,,,4.0,16.0,0.2,0.09,us-east-1,a",
        "m7i.xlarge,,,4.0,16.0,0.2,0.08,us-east-1,b",
    )
    instances, notes = price_catalogues.import_catalog(path, provider="Lambda")
    assert [
        (one.full_name, one.accelerator, one.accelerator_count, one.spot_usd_per_hour) for one in instances
    ] == [
        ("lambda/gpu_1x_h100_pcie", "H100-PCIE", 1, None),
        ("lambda/m7i.xlarge", None, 0, 0.08),
    ]
    assert [one.as_of for one in instances] == [None, None]
    assert notes == ()


def test_a_table_of_facts_with_columns_of_its_own(table):
    path = table(
        "cloud,region,instance_type,accelerator_name,accelerator_count,vcpus,memory_gib,usd_per_hour,"
        "usd_per_hour_spot,as_of,source,arch,cpu_model",
        'aws,us-east-1,g6e.xlarge,L40S,1,4,32.0,1.861,0.9154,2026-07-20,"a, b",x86_64,AMD 7R13',
        "lambda,us-east-1,cpu_4x_general,,0,4,16,0.2,,,catalogue,x86_64,",
    )
    instances, notes = price_catalogues.import_catalog(path)
    assert instances == (
        Instance(
            provider="aws", region="us-east-1", name="g6e.xlarge", vcpus=4, memory_gib=32.0, accelerator="L40S",
            accelerator_count=1, cpu_model="AMD 7R13", usd_per_hour=1.861, spot_usd_per_hour=0.9154,
            as_of=date(2026, 7, 20), source="a, b",
        ),
        Instance(
            provider="lambda", region="us-east-1", name="cpu_4x_general", vcpus=4, memory_gib=16.0,
            usd_per_hour=0.2, source="catalogue",
        ),
    )  # fmt: skip
    assert notes == ()


def test_what_cannot_be_a_price_is_left_out_and_counted(table, snapshot):
    path = table(
        GPUHUNT,
        "ok,r,1.0,4,16.0,0,,,False,",
        "no-price,r,,4,16.0,0,,,False,",
        "nan,r,nan,4,16.0,0,,,False,",
        "negative,r,-1,4,16.0,0,,,False,",
        "dear,r,1e300,4,16.0,0,,,False,",
        ",r,1.0,4,16.0,0,,,False,",
        "no-cpu,r,1.0,,16.0,0,,,False,",
        "half,r,1.0,4,16.0,0.5,T4,16,False,",
        "nameless,r,1.0,4,16.0,2,,,False,",
        "spot-only,r,1.0,4,16.0,0,,,True,",
    )
    instances, (note,) = price_catalogues.import_catalog(path)
    assert [one.name for one in instances] == ["ok"]
    assert note.code == "prices-left-out"
    assert said(note, path) == snapshot


def test_a_catalogue_that_contradicts_itself_is_doubted(table, snapshot):
    path = table(
        GPUHUNT,
        "a,r,1.0,4,16.0,1,L4,24,False,",
        "a,r,1.2,4,16.0,1,L4,24,False,",
        "b,r,9.80,4,16.0,1,L4,24,False,",
        "b,r,9.90,4,16.0,1,L4,24,True,",
    )
    instances, notes = price_catalogues.import_catalog(path)
    assert [(one.usd_per_hour, one.spot_usd_per_hour) for one in instances] == [(1.2, None), (9.8, None)]
    assert codes(notes) == ["prices-contradictory", "spot-dropped", "prices-doubtful"]
    assert [said(note, path) for note in notes] == snapshot


def test_a_file_that_is_no_catalogue_is_refused(table, snapshot):
    files = [
        ["location,price,cpu", "r,1,4"],
        [GPUHUNT + ",eur_per_hour", "a,r,1,4,16,0,,,False,,1"],
        [GPUHUNT, "a,r,,4,16,0,,,False,"],
    ]
    assert [refused(table(*lines), price_catalogues.import_catalog) for lines in files] == snapshot


def test_a_day_that_is_none_is_refused(table):
    for text in ("July", "2026-13-45"):
        with pytest.raises(StorageError, match=repr(text)):
            price_catalogues.import_catalog(table(GPUHUNT, "a,r,1,4,16,0,,,False,"), as_of=text)


# gpuhunt


def offer(**fields):
    known = {
        "provider": "aws", "location": "us-east-1", "instance_name": "g6.xlarge", "cpu": 4, "memory": 16.0,
        "gpu_name": "L4", "gpu_count": 1, "gpu_memory": 24.0, "price": 0.8048, "spot": False,
    }  # fmt: skip
    return types.SimpleNamespace(**{**known, **fields})


class UnfetchedError(Exception):
    """As the package's own error."""


def catalogue(items, version="20260715-3", error=None):
    """A stand-in for the package, which answers without a network."""

    class Catalog:
        asked = None

        def __init__(self, auto_reload):
            assert not auto_reload
            self.catalog = {}

        def load(self):
            if error is not None:
                raise UnfetchedError("Failed to load catalogs of all providers") from error
            self.catalog = {name: types.SimpleNamespace(version=version) for name in ("aws", "gcp")}

        def query(self, provider):
            assert self.catalog
            Catalog.asked = provider
            if "nobody" in provider:
                raise ValueError("Unknown provider: nobody")
            return items

    return types.SimpleNamespace(Catalog=Catalog, GPUHuntError=UnfetchedError)


def test_fresh_prices_carry_the_day_of_the_catalogue(monkeypatch):
    module = catalogue(
        [offer(), offer(price=0.3, spot=True), offer(gpu_name=None, gpu_count=0, instance_name="c7i")]
    )
    monkeypatch.setitem(sys.modules, "gpuhunt", module)
    instances, notes = price_catalogues.refresh(["aws"])
    assert module.Catalog.asked == ["aws"]
    assert [(one.full_name, one.as_of, one.source) for one in instances] == [
        ("aws/c7i", date(2026, 7, 15), "gpuhunt 20260715-3"),
        ("aws/g6.xlarge", date(2026, 7, 15), "gpuhunt 20260715-3"),
    ]
    assert (instances[1].usd_per_hour, instances[1].spot_usd_per_hour) == (0.8048, 0.3)
    assert notes == ()


def test_a_catalogue_without_a_day_is_of_today(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpuhunt", catalogue([offer()], version="latest"))
    monkeypatch.setattr(price_catalogues, "today", lambda: date(2026, 8, 1))
    assert price_catalogues.refresh(["aws"])[0][0].as_of == date(2026, 8, 1)


def test_a_provider_that_could_not_be_fetched_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpuhunt", catalogue([offer()]))
    _, (note,) = price_catalogues.refresh()
    assert all(name in note.text for name in ("azure", "lambdalabs", "nebius", "runpod"))
    assert "aws" not in note.text


def unfetched(*providers):
    """What is said of prices that cannot be fetched."""
    with pytest.raises(StorageError) as caught:
        pytest.fail(f"fetched {price_catalogues.refresh(*providers)}")
    return str(caught.value)


def test_fresh_prices_need_the_package(monkeypatch, snapshot):
    monkeypatch.setitem(sys.modules, "gpuhunt", None)
    assert unfetched() == snapshot


def test_fresh_prices_need_the_network_and_a_provider(monkeypatch, snapshot):
    said = []
    for providers, error in [(["aws"], OSError("no route to host")), (["aws", "nobody"], None)]:
        monkeypatch.setitem(sys.modules, "gpuhunt", catalogue([], error=error))
        said.append(unfetched(providers))
    assert said == snapshot


def test_a_provider_without_prices_is_no_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpuhunt", catalogue([]))
    assert "azure" in unfetched(["azure"])


def test_today_is_a_day():
    assert isinstance(prices.today(), date)


def test_only_days_that_exist_are_days():
    assert prices.parse_date("2028-02-29") == date(2028, 2, 29)
    for text in (
        "2026-13-45",
        "2026-02-29",
        "20260720",
        "2026-7-2",
        "2026-07-20T00:00:00",
        "0",
        "",
        "2026-W30-1",
    ):
        assert prices.parse_date(text) is None, text

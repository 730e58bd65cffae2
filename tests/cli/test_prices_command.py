"""``infergate prices``: list, import, refresh."""

import sys
from datetime import date

import pytest
from refusals import by_arguments, refused

from pytest_infergate.cli import main
from pytest_infergate.core.domain.instance_types import Instance
from pytest_infergate.storage import price_catalogues, prices

HEADER = "provider,region,name,vcpus,usd_per_hour,as_of"


@pytest.fixture(autouse=True)
def summer(monkeypatch):
    monkeypatch.setattr(prices, "today", lambda: date(2026, 7, 21))


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main.main(["prices", *map(str, arguments)])
    out, err = capsys.readouterr()
    return done.value.code, out, err


def test_the_list_has_what_comes_with_infergate(capsys, snapshot):
    code, out, err = run(capsys, "list")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 2 + len(prices.default_prices()[0])
    assert "2026-07-20" in next(line for line in lines if line.startswith("aws/c7i.xlarge"))
    assert err == snapshot


def test_the_list_is_by_accelerator_and_the_cheapest_comes_first(capsys):
    _, out, _ = run(capsys, "list", "--accelerator", "A100")
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        "gcp/a2-highgpu-1g",
        "aws/p4d.24xlarge",
        "runpod/1x_A100-80GB_SECURE",
        "azure/Standard_NC24ads_A100_v4",
        "gcp/a2-ultragpu-1g",
        "aws/p4de.24xlarge",
    ]


def test_the_list_is_narrowed(capsys):
    _, out, _ = run(capsys, "list", "--accelerator", "L4", "--region", "us-central1")
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["gcp/g2-standard-4"]


def test_the_list_takes_tables_of_the_users_own(capsys, tmp_path, snapshot):
    path = tmp_path / "own.csv"
    path.write_text(f"{HEADER},spot_usd_per_hour\nlab,cellar,box,16,1.5,2026-07-01,1.6\n")
    code, out, err = run(capsys, "list", "--region", "cellar", "--prices", path)
    assert code == 0
    row = ["lab/box", "cellar", "16", "-", "-", "-", "1.50000", "-", "2026-07-01"]
    assert out.splitlines()[2].split() == row
    assert err.replace(str(path), "<own.csv>") == snapshot


def test_what_cannot_be_done_exits_with_4(capsys, monkeypatch, tmp_path, snapshot):
    monkeypatch.setitem(sys.modules, "gpuhunt", None)
    catalogue, output = tmp_path / "x.csv", tmp_path / "prices.csv"
    catalogue.write_text("a,b\n1,2\n")
    output.write_text("before")
    asked = by_arguments(
        ["list", "--accelerator", "X4"],
        ["list", "--region", "mars"],
        ["list", "--prices", "no.csv"],
        ["import", "no.csv", "-o", "x"],
        ["refresh"],
    )
    asked["a file that is not a catalogue"] = ["import", catalogue, "-o", output]
    asked["refresh without the package"] = ["refresh", "-o", output]
    assert refused(lambda *arguments: run(capsys, *arguments), asked, folder=tmp_path) == snapshot
    assert output.read_text() == "before"


def test_a_catalogue_becomes_a_table(capsys, tmp_path):
    catalogue, output = tmp_path / "aws.csv", tmp_path / "prices.csv"
    catalogue.write_text(
        "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot\n"
        "g6.xlarge,us-east-1,0.8048,4,16,1,L4,24,False\n"
        "g6.xlarge,eu-west-1,,4,16,1,L4,24,False\n"
        "g6.xlarge,eu-west-2,0.9,4,16,1,L4,24,False\n"
    )
    code, out, err = run(
        capsys, "import", catalogue, "--as-of", "2026-07-01", "--region", "us-east-1", "-o", output
    )
    assert (code, out) == (0, "")
    note, written = err.splitlines()
    assert note.startswith(f"note: {catalogue}: 1 row ")
    assert written == f"wrote {output}: 1 instance"
    ((one,), notes) = prices.read_prices(output)
    assert (one.full_name, one.as_of, one.accelerator, notes) == ("aws/g6.xlarge", date(2026, 7, 1), "L4", ())


def test_a_catalogue_may_be_of_another_provider(capsys, tmp_path):
    catalogue, output = tmp_path / "x.csv", tmp_path / "prices.csv"
    catalogue.write_text("name,region,price,cpu\nbox,cellar,1,4\n")
    assert run(capsys, "import", catalogue, "--provider", "lab", "-o", output)[0] == 0
    assert prices.read_prices(output)[0][0].full_name == "lab/box"


def test_fresh_prices_become_a_table(capsys, monkeypatch, tmp_path):
    made = (Instance(provider="aws", region="r", name="x", vcpus=4, memory_gib=None, usd_per_hour=1.0),)
    asked = []
    monkeypatch.setattr(
        price_catalogues, "refresh", lambda providers: (asked.append(providers), (made, ()))[1]
    )
    assert run(capsys, "refresh", "--provider", "aws", "-o", tmp_path / "one.csv")[0] == 0
    assert run(capsys, "refresh", "-o", tmp_path / "two.csv")[0] == 0
    assert asked == [("aws",), price_catalogues.PROVIDERS]
    assert prices.read_prices(tmp_path / "one.csv") == (made, ())

"""Delimited text: separators, encodings, quotes, broken rows, bounded memory."""

import gzip
import os
import subprocess
import sys
import textwrap

import pytest

from tunesmith.data import spill
from tunesmith.data.sources import open_source
from tunesmith.errors import DataError

FRENCH = "text,label\n" + "".join(f"c'était très élégant à Noël numéro {n},ça\n" for n in range(40))
CHINESE = "text,label\n" + "".join(f"这家酒店的房间非常干净而且服务很好第{n}次,好评\n" for n in range(40))
RUSSIAN = "text,label\n" + "".join(f"Очень хорошая гостиница и приятный персонал {n},да\n" for n in range(40))


def read(folder, content, name="toy.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_source(path)[""]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("a,b\n1,x\n2,y\n", "toy.csv"),
        ("a;b\n1;x\n2;y\n", "toy.csv"),
        ("a\tb\n1\tx\n2\ty\n", "toy.csv"),
        ("a|b\n1|x\n2|y\n", "toy.txt"),
        ("a, b\n1, x\n2 , y\n", "toy.csv"),
        ("a,b\r\n1,x\r\n2,y\r\n", "toy.csv"),
        ("\n\na,b\n\n1,x\n\n2,y", "toy.csv"),
        ('"a","b"\n"1","x"\n"2","y"\n', "toy.csv"),
        ("\ufeffa,b\n1,x\n2,y\n", "toy.csv"),
    ],
)
def test_separators_blanks_and_line_ends_are_found_out(tmp_path, content, name):
    table = read(tmp_path, content, name)
    assert (table.column("a").to_pylist(), table.column("b").to_pylist()) == (["1", "2"], ["x", "y"])


def test_separators_inside_texts_do_not_mislead(tmp_path):
    rows = "".join(f"one, two, three {n}; four | five\tpos\n" for n in range(60))
    assert read(tmp_path, "text\tlabel\n" + rows).column_names == ("text", "label")
    quoted = "".join(f'"a; b; c {n}",pos\n' for n in range(60))
    assert read(tmp_path, "text,label\n" + quoted).column_names == ("text", "label")


def test_one_column_is_fine(tmp_path):
    table = read(tmp_path, "text\nhello, world\na, b, c\nplain\n", "toy.txt")
    assert table.column("text").to_pylist() == ["hello, world", "a, b, c", "plain"]
    assert read(tmp_path, 'text\n"so" he said\n').column("text").to_pylist() == ['"so" he said']


def test_lines_with_commas_in_a_file_of_one_quoted_column(tmp_path):
    assert read(tmp_path, 'text\n"hello, world"\nplain\n').column("text").to_pylist() == ["hello, world", "plain"]


def test_nothing_and_blanks_are_null(tmp_path):
    assert read(tmp_path, 'a,b\n,x\n"  ",y\n').column("a").to_pylist() == [None, None]


def test_quoted_newlines_stay(tmp_path):
    table = read(tmp_path, 'a,b\n"one\ntwo",x\n"say ""hi""",y\n')
    assert table.column("a").to_pylist() == ["one\ntwo", 'say "hi"']


def test_tab_separated_files_without_quoting_are_read_as_they_are(tmp_path):
    stray = 'text\tlabel\n" it was fine\tpos\n5" disk\tneg\nbad "\tneg\nend\tpos\n'
    assert read(tmp_path, stray, "toy.tsv").column("text").to_pylist() == ['" it was fine', '5" disk', 'bad "', "end"]
    merging = 'text\tlabel\n"one\tpos\ntwo\tneg\nthree"\tpos\n'
    assert read(tmp_path, merging, "toy.tsv").num_rows == 3


def test_a_blank_header_cell_gets_a_name(tmp_path):
    assert read(tmp_path, "\ufefftext,label,\na,x,\n").column_names == ("text", "label", "column_3")


def test_names_that_are_numbers_are_told(tmp_path):
    assert "header is missing" in read(tmp_path, "39,male\n40,female\n").notes[0]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"),
        ("text,label\na café here,x\n", "latin-1"),
        (CHINESE, "gb18030"),
        (RUSSIAN, "cp1251"),
        (CHINESE, "utf-16"),
        (FRENCH, "utf-8-sig"),
    ],
)
def test_encodings_are_found_out_and_guesses_told(tmp_path, text, encoding):
    table = read(tmp_path, text.encode(encoding))
    assert table.column("text")[0].as_py() == text.split("\n")[1].partition(",")[0]
    assert bool(table.notes) == (not encoding.startswith("utf"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "toy.csv: the file is empty"),
        ("\n \n", "header and no rows|is empty"),
        ("text,label\n", "toy.csv: there is a header and no rows"),
        ("a,b,a\n1,2,3\n", 'two columns are called "a"'),
        ("1,2\n3,4\n", "header seems missing"),
        ("a,b\n1,x\n2,y,z\n", r"toy.csv, row 2 \(line 3\): expected 2 fields \(a, b\) and found 3: 2 | y | z"),
        ('a,b\n"x\ny",1\n2\n', r"toy.csv, row 2 \(line 4\): expected 2 fields \(a, b\) and found 1"),
        ('a,b\n1,x\n"open,y\n3,z\n', "toy.csv, line 3: the quotes are broken"),
        ('a,b\n1,x\n"2" 3,y\n', "toy.csv, line 3: the quotes are broken"),
        (b"a,b\n1,x\n2,\0\n", "toy.csv, line 3: there is a NUL byte"),
        ("a,b\n1,é好\n2,é好\n".encode() + b"3,\xff\n", "toy.csv, line 4: there are bytes that are not UTF-8"),
        (b"\xef\xbb\xbfa,b\n1,\xff\n", "toy.csv, line 2: the file begins as utf-8-sig"),
        (b"\xff\xfea", "toy.csv: the file begins as utf-16"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, what):
    with pytest.raises(DataError, match=what) as caught:
        read(tmp_path, content)
    assert all(problem.remedy for problem in caught.value.problems)


def test_broken_rows_far_down_are_all_named_up_to_five(tmp_path):
    rows = ["a,b"] + ["1,x"] * 200
    for row in (150, 160, 170, 180, 190, 200):
        rows[row] = "1,x,y"
    with pytest.raises(DataError) as caught:
        read(tmp_path, "\n".join(rows))
    assert caught.value.problems[0].where == "toy.csv, row 150 (line 151)"
    assert len(caught.value.problems) == 5


def test_a_damaged_gzip_file_is_named(tmp_path):
    whole = gzip.compress(FRENCH.encode())
    with pytest.raises(DataError, match="damaged or cut short"):
        read(tmp_path, whole[:-20], "toy.csv.gz")
    with pytest.raises(DataError, match="damaged or cut short"):
        read(tmp_path, b"not gzip", "toy.csv.gz")


def test_a_field_may_be_a_whole_document(tmp_path):
    assert len(read(tmp_path, f"text,label\n{'long ' * 50_000},x\n").column("text")[0].as_py()) == 249_999


def test_a_spilled_file_reads_the_same(tmp_path, monkeypatch):
    content = "text,label\n" + "".join(f"row {n},{n % 3}\n" for n in range(120_000))
    held = read(tmp_path, content)
    monkeypatch.setattr(spill, "IN_MEMORY_BYTES", 1 << 16)
    mapped = read(tmp_path, content)
    assert mapped.arrow == held.arrow
    assert mapped.column("text")[119_999].as_py() == "row 119999"
    assert mapped.fingerprint(["text"]) == held.fingerprint(["text"])


def test_nothing_stays_in_the_temporary_folder(tmp_path):
    (tmp_path / "toy.csv").write_text("text,label\n" + "some text,x\n" * 1000)
    program = """
        import sys
        from tunesmith.data import spill
        from tunesmith.data.sources import open_source
        spill.IN_MEMORY_BYTES = 10
        table = open_source(sys.argv[1])[""]
        assert table.column("label")[999].as_py() == "x" and spill._folder().is_dir()
    """
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "toy.csv")]
    subprocess.run(command, check=True, env=environment)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_file_is_read_and_identified_in_bounded_memory(tmp_path):
    path = tmp_path / "large.csv"
    with open(path, "w") as file:
        file.write("text,label\n")
        file.writelines(f"{n} {'word ' * 120},{n % 5}\n" for n in range(300_000))
    program = """
        import sys
        from tunesmith.data.sources import open_source
        def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1000
        open_source({"text": ["a"], "label": ["b"]})
        before = peak()
        table = open_source(sys.argv[1])[""]
        after = peak()
        def anonymous(): return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])
        table = table.identified(["text"])
        assert len(set(table.ids().tolist())) == table.num_rows == 300_000
        print(after - before, anonymous() / 1000)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    megabytes, resident = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert path.stat().st_size > 180e6
    assert megabytes < 150
    assert resident < 350

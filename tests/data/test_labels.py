from pathlib import Path

import pytest

from qbench.data.labels import Labels, load_labels, named_classes
from qbench.errors import DataError


def tree(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return sorted(names)


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_folder_per_class(tmp_path: Path) -> None:
    names = tree(tmp_path, "cat/1.png", "dog/1.png", "dog/deep/2.png")
    expected = Labels({"cat/1.png": 0, "dog/1.png": 1, "dog/deep/2.png": 1}, ("cat", "dog"))
    assert load_labels(names, None, tmp_path) == expected
    assert load_labels(names, tmp_path, tmp_path) == expected


def test_a_subset_does_not_shift_the_indices(tmp_path: Path) -> None:
    tree(tmp_path, "ant/1.png", "bee/1.png", "cat/1.png", ".cache/1.png")
    assert load_labels(["cat/1.png"], None, tmp_path).index == {"cat/1.png": 2}


def test_classes_txt_orders_the_folders(tmp_path: Path) -> None:
    names = tree(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "classes.txt").write_text("dog\nemu\ncat\n", encoding="utf-8")
    labels = load_labels(names, None, tmp_path)
    assert labels == Labels({"cat/1.png": 2, "dog/1.png": 0}, ("dog", "emu", "cat"))


def test_classes_txt_lacks_a_folder(tmp_path: Path) -> None:
    names = tree(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "classes.txt").write_text("dog\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"classes\.txt lacks the class 'cat' of cat/1\.png; add"):
        load_labels(names, None, tmp_path)


def test_the_names_that_order_classes(tmp_path: Path) -> None:
    tree(tmp_path, "dog/1.png", "cat/1.png")
    csv = table(tmp_path, "file,label\n")
    assert named_classes(None, tmp_path) == named_classes(tmp_path, Path()) == ("cat", "dog")
    assert named_classes(csv, Path()) == ()
    (tmp_path / "classes.txt").write_text("dog\ncat\n", encoding="utf-8")
    assert named_classes(None, tmp_path) == named_classes(csv, Path()) == ("dog", "cat")


def test_labels_folder_above_the_data(tmp_path: Path) -> None:
    tree(tmp_path, "cat/1.png", "dog/1.png")
    labels = load_labels(["1.png"], tmp_path, tmp_path / "dog")
    assert labels == Labels({"1.png": 1}, ("cat", "dog"))


def test_images_outside_the_class_folders(tmp_path: Path) -> None:
    names = tree(tmp_path, "cat/1.png", "a.png", "b.png")
    labels = load_labels(names, None, tmp_path)
    assert labels.index == {"cat/1.png": 0}
    note = (
        f"2 of 3 samples do not lie in a class folder of {tmp_path} and are left out: a.png, b.png"
    )
    assert labels.notes == (note,)


def test_no_class_folders(tmp_path: Path) -> None:
    names = tree(tmp_path / "imgs", "a.png")
    (tmp_path / "other").mkdir()
    message = r"no image lies in a class folder of .*; give --labels with a CSV file,label"
    for labels in (None, tmp_path / "other"):
        with pytest.raises(DataError, match=message):
            load_labels(names, labels, tmp_path / "imgs")


def test_npz_has_no_class_folders(tmp_path: Path) -> None:
    tree(tmp_path, "x.npz")
    with pytest.raises(DataError, match=r"x\.npz has no folder per class; give --labels"):
        load_labels(["x.npz[0]"], None, tmp_path / "x.npz")


def test_csv_with_indices(tmp_path: Path) -> None:
    names = tree(tmp_path / "imgs", "a.png", "sub/b.png")
    file = table(tmp_path, "file,label\n./a.png, 7\nsub\\b.png,0\n")
    labels = load_labels(names, file, tmp_path / "imgs")
    assert labels == Labels({"a.png": 7, "sub/b.png": 0})


def test_csv_of_a_spreadsheet_with_more_columns(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png")
    file = table(tmp_path, "file,split,label\na.png,val,3\n", encoding="utf-8-sig")
    assert load_labels(names, file, tmp_path).index == {"a.png": 3}


@pytest.mark.parametrize("header", ["File,Label", "file, label", " LABEL ,x,file"])
def test_csv_with_a_header_in_other_letters_or_with_blanks(header: str, tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png")
    row = "3,val,a.png" if "x" in header else "a.png, 3"
    assert load_labels(names, table(tmp_path, f"{header}\n{row}\n"), tmp_path).index == {"a.png": 3}


def test_csv_with_indices_as_floats(tmp_path: Path) -> None:
    """They count as numbers: as names 10.0 would come before 2.0."""
    names = tree(tmp_path, *(f"{index:02}.png" for index in range(12)))
    rows = "".join(f"{name},{index}.0\n" for index, name in enumerate(names))
    labels = load_labels(names, table(tmp_path, f"file,label\n{rows}"), tmp_path)
    assert labels == Labels({name: index for index, name in enumerate(names)})


def test_csv_with_a_comma_in_a_name(tmp_path: Path) -> None:
    names = tree(tmp_path, "a,1.png", "b.png")
    file = table(tmp_path, 'file,label\n"a,1.png",0\nb.png,1,\n')  # a comma at the end is no cell
    assert load_labels(names, file, tmp_path).index == {"a,1.png": 0, "b.png": 1}
    file = table(tmp_path, "file,label\na,1.png,0\nb.png,1\n")
    with pytest.raises(DataError, match="line 2 has more cells than the header; put names with a"):
        load_labels(names, file, tmp_path)


def test_csv_that_names_what_no_file_can_be_called(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png")
    file = table(tmp_path, f"file,label\na.png,0\n{'x' * 300}.png,1\n")
    assert "1 of 2 labels" in load_labels(names, file, tmp_path).notes[0]


def test_csv_with_indices_and_classes_txt(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png")
    (tmp_path / "classes.txt").write_text("x\ny\n", encoding="utf-8")
    file = table(tmp_path, "file,label\na.png,1\n")
    assert load_labels(names, file, tmp_path) == Labels({"a.png": 1}, ("x", "y"))
    file = table(tmp_path, "file,label\na.png,2\n")
    with pytest.raises(DataError, match=r"label 2 of a\.png is no class; give 0 to 1"):
        load_labels(names, file, tmp_path)


def test_csv_with_names(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png", "b.png")
    file = table(tmp_path, "file,label\na.png,zebra\nb.png,ape\n")
    expected = Labels({"a.png": 1, "b.png": 0}, ("ape", "zebra"))
    assert load_labels(names, file, tmp_path) == expected
    (tmp_path / "classes.txt").write_text("zebra\n\nemu\nape\n", encoding="utf-8")
    expected = Labels({"a.png": 0, "b.png": 2}, ("zebra", "emu", "ape"))
    assert load_labels(names, file, tmp_path) == expected


def test_csv_names_that_classes_txt_lacks_or_repeats(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png")
    file = table(tmp_path, "file,label\na.png,crane\n")
    (tmp_path / "classes.txt").write_text("emu\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"label 'crane' of a\.png is not in classes\.txt; correct"):
        load_labels(names, file, tmp_path)
    (tmp_path / "classes.txt").write_text("crane\nemu\ncrane\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'crane' stands twice in classes\.txt; give indices"):
        load_labels(names, file, tmp_path)


def test_csv_notes(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png", "b.png", "c.png")
    file = table(tmp_path, "file,label\na.png,0\nc.png,1\nx.png,1\ny.png,1\n")
    labels = load_labels(names[:2], file, tmp_path)  # c.png is there, but was not chosen
    assert labels.index == {"a.png": 0}
    assert labels.notes == (
        f"1 of 2 samples do not have a label in {file} and are left out: b.png",
        f"2 of 4 labels in {file} belong to no file in {tmp_path}: x.png, y.png",
    )


def test_csv_for_rows_of_npz(tmp_path: Path) -> None:
    tree(tmp_path, "x.npz")
    file = table(tmp_path, "file,label\nx.npz[0],4\nx.npz[1],5\ny.npz[0],5\n")
    labels = load_labels(["x.npz[0]"], file, tmp_path / "x.npz")
    assert labels.index == {"x.npz[0]": 4}
    assert labels.notes == (f"1 of 3 labels in {file} belong to no file in {tmp_path}: y.npz[0]",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the header file,label; make it the first line"),
        ("a.png,0\n", "lacks the header file,label"),
        ("file,label,File\na.png,0,b.png\n", "lacks the header file,label"),
        ("file,label\na.png," + "9" * 5000 + "\nb.png,1\n", r"label 1 of b\.png is an int, but"),
        ("file,label\n", "holds no labels; add lines of file,label"),
        ("file,label\na.png\n", "line 2 has no file or no label; complete or remove it"),
        ("file,label\n,3\n", "line 2 has no file or no label"),
        ("file,label\na.png,-1\n", r"label -1 of a\.png is no class; give 0$"),
        ("file,label\na.png,0\na.png,1\n", r"line 3 gives a\.png a second label '1'; keep one"),
        ("file,label\na.png,0\nb.png,x\n", r"label 0 of a\.png is an int, but others are not"),
        ("file,label\nq.png,0\n", r"no label for any of the 1 samples: it names q\.png, the sa"),
        ("file,label\na.png," + "x" * 200_000, r"is no CSV in UTF-8 \(field larger"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    names = tree(tmp_path, "a.png")
    with pytest.raises(DataError, match=message) as caught:
        load_labels(names, table(tmp_path, text), tmp_path)
    assert "labels.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    names = tree(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"cannot read labels .*gone\.csv: No such file"):
        load_labels(names, tmp_path / "gone.csv", tmp_path)
    file = table(tmp_path, "file,label\na.png,caf\u00e9\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"labels\.csv is no CSV in UTF-8"):
        load_labels(names, file, tmp_path)
    file = table(tmp_path, "file,label\na.png,0\n")
    (tmp_path / "classes.txt").write_bytes(b"\xff\xff")
    with pytest.raises(DataError, match=r"cannot read .*classes\.txt .*; save it as UTF-8"):
        load_labels(names, file, tmp_path)

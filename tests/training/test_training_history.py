"""A history is a list of epochs that survives a trip through a spreadsheet's format."""

import pytest

from jaxcam.training import Epoch, History

ROWS = History([Epoch(1, 1 / 3, 0.1, 2e-17, 0.5), Epoch(2, 0.25, 0.2, 123456.789, 1.0)])


def test_every_digit_comes_back(tmp_path):
    assert History.from_csv(ROWS.to_csv(tmp_path / "history.csv")) == ROWS


def test_the_file_has_the_columns_it_promises(tmp_path):
    lines = ROWS.to_csv(tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,train_loss,train_accuracy,test_loss,test_accuracy"
    assert lines[2] == "2,0.25,0.2,123456.789,1.0"


def test_a_missing_or_foreign_or_cut_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no history 'nowhere'; training with jaxcam train writes one"):
        History.from_csv("nowhere")
    file = tmp_path / "history.csv"
    for content, message in [
        ("", "is no history: its first line is not epoch,train_loss"),
        ("a,b\n1,2\n", "is no history"),
        ("epoch,train_loss,train_accuracy,test_loss,test_accuracy\n1,0.5\n", "is damaged"),
        ("epoch,train_loss,train_accuracy,test_loss,test_accuracy\n1,0.5,x,1,1\n", "is damaged: could not convert"),
    ]:
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            History.from_csv(file)

"""Files that cannot be read while a network trains."""

import dense_data
import pytest

from cluenet_mm.data_errors import name_files


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("folder", ["images", "maps"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, folder, workers):
    pytest.importorskip("mmseg")
    dense_data.write(tmp_path)
    config = dense_data.segmentor_config(tmp_path)
    broken = min((tmp_path / folder).iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    options = [
        f"train_dataloader.num_workers={workers}",
        "train_dataloader.persistent_workers=False",
    ]
    status, _ = dense_data.run_tool(
        "train.py", config, "--work-dir", tmp_path / "work", "--cfg-options", *options
    )
    assert status.startswith("error: cannot read ")
    assert str(broken) in status
    assert "\n" not in status
    assert "Replace the file" in status


def test_an_error_of_another_kind_keeps_its_traceback():
    class Data:
        def pipeline(self, sample):
            return sample["missing"]

    data = Data()
    name_files(data)
    with pytest.raises(KeyError):
        data.pipeline({"img_path": "photo.jpg"})

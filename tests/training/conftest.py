"""What the tests of this room share."""

import pytest

from jaxcam.training import curves


@pytest.fixture(scope="module", autouse=True)
def without_tensorboard(request):
    """Files are counted here, and there are as many where TensorBoard happens to be installed; its own tests ask."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "test_training_curves":
            patch.setattr(curves, "installed", lambda: False)
        yield

"""What the packages may import, and what the command lines can do without loading the engine."""

from mianet.inference.prediction import MODES
from tuning.engine.samplers import SAMPLERS
from tuning.engine.stopping import SCHEDULERS
from tuning.paper.setup import CONFIGURATIONS
from tuning.spec import choices
from tuning.spec.models import MODELS


def test_the_command_lines_offer_what_is_registered():
    assert set(choices.MODEL_NAMES) == set(MODELS)
    assert set(choices.SAMPLER_NAMES) == set(SAMPLERS)
    assert set(choices.SCHEDULER_NAMES) == set(SCHEDULERS)
    assert set(choices.PREDICTION_MODES) == set(MODES)
    assert set(choices.CONFIGURATIONS) == set(CONFIGURATIONS)

"""AOE, adversarial training with clean outliers: ALOE without the attack on the outliers."""

from __future__ import annotations

from atd.training.objectives.oe import OutlierExposure

__all__ = ["OBJECTIVE", "AdversarialOutlierExposure"]


class AdversarialOutlierExposure(OutlierExposure):
    """CE(attacked ID) + lambda * CE(clean outliers, uniform).

    A baseline of the ATD paper (section 2.3), and `--adv-only-in` in the code of ALOE.
    """

    raises = "classification loss"


OBJECTIVE = AdversarialOutlierExposure()

"""What validation accepts of a data set."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """What validation accepts; whatever goes beyond is a finding.

    Attributes:
        missing_share: Largest share of a split's examples that lack a feature.
        oov_share: Largest share of a split's ids of a feature that are out of vocabulary.
        label_rate: Least and largest weighted mean of a label in the training split.
        drift: Largest population stability index of a feature between training and another split:
            0 for equal distributions; above 0.25 is usually called a significant shift.
        duplicate_share: Largest share of a split's examples that repeat an earlier one exactly.
        deviations: Largest distance of a dense value from its mean, in standard deviations.
        echo: Largest difference, between positive and negative training examples, of the share
            whose newest event is of the candidate itself. More means that a request's own
            outcome is in its history.
        single_feature_auc: Largest AUC of one feature alone, over training users that it was not
            fitted to. More means that the feature knows the label.
        one_sided_share: Least share of the training examples with a value of a feature from which
            on it is told if all of them have the same label.
        stranger_share: Largest share of a table's events whose user has no request.
        unseen_share: Largest share of the examples' candidate ids that no event has.
        spelling_share: Largest share of the users, or of a vocabulary's values, that equal another
            one but for `.0`, blanks, case or leading zeros.
        nothing_share: Largest share of the values of a vocabulary that look like nothing, as `-`.
    """

    missing_share: float = 0.99
    oov_share: float = 0.5
    label_rate: tuple[float, float] = (0.0001, 0.9999)
    drift: float = 0.5
    duplicate_share: float = 0.01
    deviations: float = 100.0
    echo: float = 0.5
    single_feature_auc: float = 0.98
    one_sided_share: float = 0.01
    stranger_share: float = 0.25
    unseen_share: float = 0.5
    spelling_share: float = 0.01
    nothing_share: float = 0.0


DEFAULT_LIMITS = Limits()

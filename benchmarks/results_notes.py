"""What numbers do not say by themselves, for `benchmarks/results_page.py`."""

NOTES = {
    "complete_journey_cross": """#### What the figures are of

With events alone Kunlun was far ahead, because it alone finds the history within 131,000 examples.
Given the counts, every model has what the history says most plainly, and the families lie within
five thousandths of each other. Over three seeds Kunlun, DIN and Wukong are equal, and Kunlun is
ahead of InterFormer, UniDot, TokenFormer and HSTU; DIN takes 0.9 of Kunlun's processor time. With
twice the rate, 0.0042 and 0.0045 (seed 0, 21cb0ea), Kunlun and DIN gain alike, to 0.7185 and
0.7183, on validation 0.7384 and 0.7380. Sums of the PFFN's events beside the seeds, as DIN has,
left Kunlun at 0.7185, and sigmoid gates in the place of every second seed's softmax gave 0.7193
(throw-away changes, 0.0005 better was predicted). What the counts leave to find is little: 128
purchases in place of 64 bring Kunlun 0.0004 (docs/design.md). So no part of the trunk is worth
anything here: pooling the events, not the PFFN's, letting the summary interact, no final pooling,
one expert or one partition, every module in every layer, a random start move NE by 0.0004 or less
(seed 0); the head's view of the context is worth 0.0021. The counts leave the events little to say:
without any history configs/base.py loses 0.0007, without order and time nothing
([below](#shortcut-audit-of-runsbase)). What the parts are worth, data without counts have to say.

The columns and the number of examples decide more than the family. Product lines and the popularity
of 7 and 91 days brought configs/base.py from 0.7209 to 0.7114, and configs/complete_journey.py from
0.7089 to 0.7004; all examples in place of a tenth bring the latter's shape 0.019, a second pass
over them 0.0024 more. Before these columns, on all examples, DIN had 0.7082 and Kunlun 0.7089
(48170e0).
""",
    "complete_journey_rates": """#### What the figures are of

A comparison at one rate for all might favour the family that the rate suits. So the three families
that are level in the study above were trained at half and at twice its rate, Kunlun and DIN at four
times, too (seed 0). Twice is best for Kunlun and DIN, and for Wukong on validation a trifle worse
than once. At the rate that is best on validation Kunlun is level with DIN, and ahead of Wukong by
0.0013 [0.0007, 0.0020]. UniDot gains at twice the rate as Kunlun does, and stays behind it by
0.0016 [0.0010, 0.0022]. What is missing has not been run.
""",
    "synthetic_needs": """#### What the figures are of

Here no count says what there is to know: when the candidate's category was last bought, and what
came last. Every model sees which events match and how old each is. Kunlun is ahead of all six, by
ten times what lies between the families on Complete Journey, where counts and ages of the last
match are given. UniDot comes nearest, and its seeds lie up to 0.04 apart, by how early each finds
the histories. All are far from the true
probabilities: 100,000 examples teach less than half of it. Equal FLOPs leave models that attend
over all events narrow (InterFormer and TokenFormer 14 wide, HSTU 24); one rule of learning rates
holds for all. What Kunlun owes to order and time is measured
[below](#shortcut-audit-of-runsscalingsynthetic_needsrunskunlun_seed0): without them it loses 0.19
NE, all that it has over trees on counts and more. On Complete Journey the like was nothing; what
decides there is not when, but how often.
""",
    "complete_journey": """#### What these laws are of

Kunlun's largest size is better than both laws predict. The reason is where the runs end: just after
Kunlun has begun to read histories. *While training* shows it: until some 90,000 examples its NE is
everyone's, that of a model which knows what is popular (trees on context and popularity: 0.904);
then it leaves them, earlier and faster the larger it is, so that the largest is further down that
slope than the smaller ones can tell. The peers do not get there within 131,000 examples: size buys
them little, and the ratios of etas above say who finds the history first, not how the models scale
once all have found it. With three times the examples (configs/base.py) NE is still falling: data
bounds these runs, not size.
""",
    "synthetic": """#### What these laws are of

Here both models find the histories, Kunlun at every size. Its curve bends, as one must that ends at
the true probabilities: the log law, which knows no floor, puts the largest size too low, and the
power law does not. The floor is that of endless size at 100,000 examples; what these do not teach
comes on top of the true probabilities' NE. DIN's seeds lie far apart (0.86 to 0.93 at its smallest)
by whether they find the histories early or late in the epoch; its slope is mostly that, and the
ratio of etas says nothing: its interval holds 1. What differs is the level: Kunlun at 2.2 million
FLOPs (0.815) is ahead of DIN at 4.8 (0.826).
""",
}

# Audits by the names of their records, and what stands behind each.
AUDITED = {
    "complete_journey": """The run is configs/base.py's; the audit, with `audit.json` kept as
[audit_complete_journey.json](../benchmarks/results/audit_complete_journey.json):

```bash
python train.py --config=configs/base.py --workdir=runs/base
python -m kunlun_jax.audit --workdir=runs/base \\
    --counting=benchmarks/results/counting_baselines_complete_journey.json
```
""",
    "synthetic_needs": """The run is the study's, the audit kept as
[audit_synthetic_needs.json](../benchmarks/results/audit_synthetic_needs.json):

```bash
python -m kunlun_jax.scaling --study=configs/scaling/synthetic_needs.py --only='^kunlun_seed0$'
python -m kunlun_jax.audit --workdir=runs/scaling/synthetic_needs/runs/kunlun_seed0
```
""",
}

"""A minute on synthetic data: does everything run?

    python train.py --config=configs/smoke.py --workdir=runs/smoke
"""

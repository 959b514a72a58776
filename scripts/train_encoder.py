"""`facegen train-encoder` as a script, for a shell or a scheduler.

python scripts/train_encoder.py --generator runs/00000-faces64-cond-tiny --init none --blocks 2,2,0
"""

from facegen.cli.training.encoder import command

if __name__ == "__main__":
    command()

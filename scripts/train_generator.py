"""`facegen train` as a script, for a shell or a scheduler.

python scripts/train_generator.py --data faces64.zip --cfg tiny --mirror --kimg 400
"""

from facegen.cli.training.generator import command

if __name__ == "__main__":
    command()

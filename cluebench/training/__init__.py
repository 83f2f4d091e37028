"""Fine-tuning with Paddle: the steps of a run, its optimizer, checkpoints and evaluations. Imports Paddle."""

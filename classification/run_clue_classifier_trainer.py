r"""Fine-tunes a model on one of the seven classification tasks of CLUE through PaddleNLP's Trainer.

    python classification/run_clue_classifier_trainer.py --model_name_or_path ernie-3.0-medium-zh \
        --dataset "clue tnews" --do_train --do_eval --do_predict --do_export --output_dir out

Takes all of PaddleNLP's TrainingArguments; the defaults are the published ones. Inputs, row order, losses and
submission files are the same as with run_clue_classifier.py. An interrupted run that is started again with the same
--output_dir continues from its last checkpoint.
"""

from cluebench.foundation import command, environment
from cluebench.training.configure import configure
from cluebench.training.life import started


def main() -> None:
    environment.import_paddle()
    from cluebench import models
    from cluebench.training import paddlenlp_arguments, paddlenlp_trainer  # the flags are PaddleNLP's own

    task, own, arguments = paddlenlp_arguments.parsed(__doc__)
    config = configure(
        paddlenlp_arguments.run_flags(own, arguments), task, **paddlenlp_arguments.other_settings(arguments)
    )
    resumed = paddlenlp_trainer.checkpoint_to_resume(config, own, arguments)
    with started(config) as run:
        model = run.new_model()
        if arguments.do_export:
            models.check_static(model)
        trainer = paddlenlp_trainer.ProtocolTrainer(run, model, arguments)
        if arguments.do_train:
            paddlenlp_trainer.train(run, trainer, resumed)
        if arguments.do_eval:
            trainer.evaluate()
        run.log_best()
        if arguments.do_predict:
            for test, rows in run.test_sets():
                (logits,) = run.outputs(model, rows)
                run.submit(test, range(len(rows)), [task.labels[index] for index in logits.argmax(axis=1)])
        if arguments.do_export:
            paddlenlp_trainer.export(run, model)


if __name__ == "__main__":
    command.run(main)

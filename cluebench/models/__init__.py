"""Models and tokenizers: PaddleNLP's own, the heads it lacks and the dropout rule.

This package imports Paddle: call `environment.import_paddle` before it.
"""

from paddlenlp.utils.log import logger

from cluebench.models.comparison import TOLERANCE, largest_difference, made_up_rows, outputs_of
from cluebench.models.cpu_backward import sums_as_products
from cluebench.models.dropout import set_dropout
from cluebench.models.heads import score_options, unwrapped
from cluebench.models.loading import load_model, load_tokenizer, size_of
from cluebench.models.preflight import preflight
from cluebench.models.saving import check_output, remove_model, save_model
from cluebench.models.to_hugging_face import write_hugging_face
from cluebench.models.to_onnx import check_static, input_shapes, static_graph, write_onnx
from cluebench.models.unpadded import Places, leaving_out, padding_of

logger.set_level("WARNING")  # PaddleNLP's own chatter would stand between the log lines users parse

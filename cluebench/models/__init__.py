"""Models and tokenizers: PaddleNLP's own, the heads it lacks and the dropout rule.

This package imports Paddle: call `environment.import_paddle` before it.
"""

from paddlenlp.utils.log import logger

from cluebench.models.cpu_backward import sums_as_products
from cluebench.models.export import TOLERANCE, check_static, write_hugging_face, write_onnx, write_static
from cluebench.models.forward_pass import Places, forward, on_device, padding_of
from cluebench.models.loading import check_output, load_model, remove_model, save_model, set_dropout, size_of
from cluebench.models.preflight import preflight
from cluebench.models.tokenizer import load_tokenizer

logger.set_level("WARNING")  # PaddleNLP's own chatter would stand between the log lines users parse

"""One of several ranks: runs the commands of a file one after the other, as Paddle takes seconds to start.

python -m paddle.distributed.launch --nproc_per_node 2 tests/scripts/ranks.py COMMANDS.json
"""

import json
import os
import runpy
import sys
from pathlib import Path

leave, os._exit = os._exit, sys.exit  # by the former a rank ends its process after a command
for command in json.loads(Path(sys.argv[1]).read_text()):
    sys.argv = command
    print("ranks.py:", *command, flush=True)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
leave(0)

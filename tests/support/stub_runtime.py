"""A runtime whose files name the device; its modes are ways to fail."""

import os
import signal
import time


class StubRuntime:
    name = "stub"
    modes = ("raise", "kill", "nothing", "hang", "fast")
    own_precision = frozenset()

    def absence_reason(self):
        return None

    def unsupported(self, device, dtype):
        return None

    def version(self):
        return "1"

    def build(self, program, folder, placing):
        if placing.mode == "raise":
            raise ValueError("no kernel for this operator\nand a long explanation")
        if placing.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if placing.mode == "hang":
            time.sleep(60)
        if placing.mode != "nothing":
            (folder / "model").write_text(placing.device)

    def load(self, folder, placing):
        raise NotImplementedError

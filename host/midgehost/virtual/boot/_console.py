# sys.stdout as on a board: text gets its \r\n, bytes through .buffer arrive as they are.
import io

import _ops


def make(link, stdout):
    class Buffer(io.IOBase):
        def write(self, data, *span):
            view = memoryview(data)
            if len(span) == 1:
                view = view[: span[0]]
            elif span:
                view = view[span[0] : span[0] + span[1]]
            for start in range(0, len(view), _ops.PAYLOAD):
                link.request(_ops.STDOUT, data=view[start : start + _ops.PAYLOAD])
            return len(view)

        def ioctl(self, request, arg):
            return arg & 4 if request == 3 else 0  # poll: always writable

    class Stdout(io.IOBase):
        buffer = Buffer()

        def write(self, data, *span):
            return stdout.write(data, *span)

        def ioctl(self, request, arg):
            return arg & 4 if request == 3 else 0

    return Stdout()

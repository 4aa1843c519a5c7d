"""The other two sides of a payment: the platform over its HTTP interface, and the terminal, which is the
`tapfer` binary with the phone of the test behind a loopback address."""

import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.request
import uuid
from pathlib import Path

HOME = Path(os.environ["TAPFER_HOME"])
SERVER = os.environ["TAPFER_SERVER"]
PATIENCE = 120


class Platform:
    """The platform's interface in somebody's name."""

    def __init__(self, api_key):
        self._api_key = api_key
        self._trust = ssl.create_default_context(cafile=HOME / "tls" / "ca-certificate.pem")

    @classmethod
    def as_operator(cls):
        return cls((HOME / "operator.key").read_text().strip())

    def get(self, path):
        return json.loads(self._ask(path, None))

    def post(self, path, body):
        return json.loads(self.post_text(path, json.dumps(body)))

    def post_text(self, path, body):
        """As text both ways: what the wallet made goes out, and what it takes comes in, unread."""
        return self._ask(path, body.encode())

    def _ask(self, path, body):
        request = urllib.request.Request(SERVER + path, data=body)
        request.add_header("authorization", f"Bearer {self._api_key}")
        if body is not None:
            request.add_header("content-type", "application/json")
            request.add_header("idempotency-key", str(uuid.uuid4()))
        with urllib.request.urlopen(request, context=self._trust, timeout=PATIENCE) as answer:
            return answer.read().decode()


def tapfer(*arguments):
    """Runs a command; its exit code and its JSON."""
    command = [os.environ["TAPFER"], *arguments, "--json", "--home", str(HOME)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return run.returncode, json.loads(run.stdout) if run.stdout else {"stderr": run.stderr}


class Field:
    """A card in the field: answers the frames of the test reader (`tapfer terminal pay --card-at`)."""

    def __init__(self, answer, field_is_gone):
        self._answer = answer
        self._field_is_gone = field_is_gone

    def pay(self, amount, *more):
        """Lets the terminal ask for an amount; its exit code and its receipt."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            card = threading.Thread(target=self._serve, args=[listener])
            card.start()
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            pay = ["terminal", "pay", "--one-tap", "--card-at", address, "--amount", amount]
            result = tapfer(*pay, *more)
            card.join(PATIENCE)
        return result

    def _serve(self, listener):
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rwb") as stream:
            while len(length := stream.read(2)) == 2:
                message = stream.read(int.from_bytes(length, "big"))
                if len(message) < 4:
                    self._field_is_gone()
                    continue
                answer = self._answer(message)
                if answer is None:
                    return
                stream.write(len(answer).to_bytes(2, "big") + answer)
                stream.flush()

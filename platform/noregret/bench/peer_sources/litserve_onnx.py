"""LitServe with the model in ONNX Runtime, one worker."""

import sys

import litserve


class Irises(litserve.LitAPI):
    def setup(self, device):
        from onnx_model import answer

        self.answer = answer

    def decode_request(self, request):
        return request["inputs"]

    def predict(self, rows):
        return self.answer(rows)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Irises(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")

"""Settings of the service.

db_password: Hx83kQz_91Lm
token = `9f86d081884c7d65` and more; export API_TOKEN=q8ZtR4mK1vXw7LpD, then go on.
See https://api.python.org/v1/items?limit=5&api_key=c4ca4238a0b923820dcc509a&page=2
    curl -H "Authorization: Bearer eW91IGFyZSBjdXJpb3Vz0123"
"""

import os

AWS_SECRET_ACCESS_KEY = 'kTr4u9wZq1/xP+7vLm2bN8dF5gHj3sQaYcEoRi6W'
DB_PASSWORD: str = "HE8d!kQ2m%Zx41"
SECRET_KEY = (
    "k9$v2@x!q7w"
    "e4r&t8z(u1p"
)
FERNET_KEY = b'8cozhW9kSi5l3mVyWrP-kdMpGxu8rMv8yV3v7cQZ1tA='
SMTP_PASSWORD = os.environ.get("SMTP_PASSWORD", "wxqthzrotbzhnvka")
TOKEN = os.getenv("SERVICE") or f"mQ7xZ2kV9wLp4RtB"
A_TOKEN, B_TOKEN = "kV9wLp4RtBmQ7xZ2", "Z2kV9wLpmQ7x4RtB"
API_KEYS = ["3c59dc048e8850243be8079a5c74d079", "b6d767d2f8ed5d21a44b0e5886680cb9"]
os.environ.setdefault("MAILGUN_API_KEY", "key-4e732ced3463d06de0ca9a15b6153677")
os.environ['SLACK_SIGNING_SECRET'] = "1ff1de774005f8da13f42943881c655f"
SETTINGS = {"debug": False, "accessToken": "pZ8kV2wLx9mQ4RtB", 'client_secret': '6512bd43-d9ca-46e0-acd1-9f2c0b6f3e5a'}
HEADERS = {"Authorization": "Bearer " + "Zm9vYmFyYmF6cXV4MTIzNDU2", "X-Api-Key": "37693cfc748049e45d87b8c7d8b9aacd"}
CLIENT = connect("db", user="ann", password='tG5%kL9z!Qw', retries=3)
JSON = '{"password": "Qx7!mK2vTz9w", "user": "ann"}', "{\"token\": \"Rk4wVt8pLm1zXq6s\"}"
PAIRS = [("api_secret", "hN6tR2wQ9xKz4mVb"), ("user", "ann")]


class Client:
    session_secret = "e4da3b7fbbce2345d7772b0674a318d5"

    def __init__(self, host, auth_token: str | None = "45c48cce2e2d7fbdea1afc51c7c6ad26", port=1):
        self.passwd = "zK4!rT9wXq2"
        self.option("--password", "-p", default="Vw8kQz3xLm7T", help="of the user")

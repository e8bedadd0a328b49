"""Settings of the service.

db_password: <PASSWORD>
token = `<KEY>` and more; export API_TOKEN=<KEY>, then go on.
See https://api.python.org/v1/items?limit=5&api_key=<KEY>&page=2
    curl -H "Authorization: Bearer <KEY>"
"""

import os

AWS_SECRET_ACCESS_KEY = '<KEY>'
DB_PASSWORD: str = "<PASSWORD>"
SECRET_KEY = (
    "<KEY>"
    "<KEY>"
)
FERNET_KEY = b'<KEY>'
SMTP_PASSWORD = os.environ.get("SMTP_PASSWORD", "<PASSWORD>")
TOKEN = os.getenv("SERVICE") or f"<KEY>"
A_TOKEN, B_TOKEN = "<KEY>", "<KEY>"
API_KEYS = ["<KEY>", "<KEY>"]
os.environ.setdefault("MAILGUN_API_KEY", "<KEY>")
os.environ['SLACK_SIGNING_SECRET'] = "<KEY>"
SETTINGS = {"debug": False, "accessToken": "<KEY>", 'client_secret': '<KEY>'}
HEADERS = {"Authorization": "Bearer " + "<KEY>", "X-Api-Key": "<KEY>"}
CLIENT = connect("db", user="ann", password='<PASSWORD>', retries=3)
JSON = '{"password": "<PASSWORD>", "user": "ann"}', "{\"token\": \"<KEY>\"}"
PAIRS = [("api_secret", "<KEY>"), ("user", "ann")]


class Client:
    session_secret = "<KEY>"

    def __init__(self, host, auth_token: str | None = "<KEY>", port=1):
        self.passwd = "<PASSWORD>"
        self.option("--password", "-p", default="<PASSWORD>", help="of the user")

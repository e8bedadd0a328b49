DATABASE = "postgresql://service:kTr4u9wZq1@db.python.org:5432/app"
QUEUE = f"amqps://worker:Zw0-kk.qP7!@{HOST}/jobs"

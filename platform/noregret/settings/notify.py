"""Who is told of what happens: webhooks, and e-mail to the operators."""

from .core import ENVIRONMENT

WEBHOOK_PRIVATE = ENVIRONMENT.webhook_private
ALERT_EMAILS = ENVIRONMENT.alert_emails
DEFAULT_FROM_EMAIL = ENVIRONMENT.email_from
EMAIL_HOST = ENVIRONMENT.email_host
EMAIL_PORT = ENVIRONMENT.email_port
EMAIL_HOST_USER = ENVIRONMENT.email_user
EMAIL_HOST_PASSWORD = ENVIRONMENT.email_password
EMAIL_USE_TLS = ENVIRONMENT.email_tls
EMAIL_TIMEOUT = 10

"""Audio by reference: reads what a URI names, if the operator has allowed its place.

Nothing is allowed by default. What is allowed is a list of places, never a pattern over whole URIs,
and each kind is read with its own care:

    https.py    the host is in the list; its name is looked up once, every address that it has must
                be one of the public internet, and the connection goes to an address that was
                checked; redirects are not followed
    objects.py  s3:// and gs://: the bucket is in the list; credentials are those of the service
    local.py    file://: the real path lies under a listed folder, and is a regular file when open

Of a long file only the parts are read that stage 1 asks for (`remote_file.py`).
"""

"""What an edge does at its own pace beside serving: hearing, switching, keeping, reporting, acknowledging.

Loops carry values between core and adapters. None of them stands in the path of a request, and each
is bounded: what cannot be told now is told as it then is, later.
"""

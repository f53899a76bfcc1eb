//! Run options reach the container as they reach one of `docker run`.

/* What `unmask_slowly` in masking.py does, for the compiled build: RFC 6455 section 5.3. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

static PyObject *
unmask(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(arguments[0]) || !PyBytes_Check(arguments[1])
        || PyBytes_GET_SIZE(arguments[1]) != 4) {
        PyErr_SetString(PyExc_TypeError, "unmask(payload, key) takes bytes and a key of four bytes");
        return NULL;
    }
    const Py_ssize_t length = PyBytes_GET_SIZE(arguments[0]);
    PyObject *result = PyBytes_FromStringAndSize(NULL, length);
    if (result == NULL)
        return NULL;
    const char *from = PyBytes_AS_STRING(arguments[0]);
    const char *key = PyBytes_AS_STRING(arguments[1]);
    char *to = PyBytes_AS_STRING(result);
    uint64_t mask;
    memcpy(&mask, key, 4);
    memcpy((char *)&mask + 4, key, 4);
    Py_ssize_t position = 0;
    /* Copied, since neither end need be aligned; compilers make vector instructions of this. */
    for (; position + 8 <= length; position += 8) {
        uint64_t word;
        memcpy(&word, from + position, 8);
        word ^= mask;
        memcpy(to + position, &word, 8);
    }
    for (; position < length; position++)
        to[position] = from[position] ^ key[position & 3];
    return result;
}

static PyMethodDef methods[] = {
    {"unmask", (PyCFunction)(void (*)(void))unmask, METH_FASTCALL,
     "Return the payload with the four bytes of the key applied; also masks."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_masking", "Masking in C, for the compiled build.", 0, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__masking(void)
{
    return PyModuleDef_Init(&definition);
}

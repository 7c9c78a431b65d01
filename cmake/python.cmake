# The Python modules: akidb._core (csrc/bindings, by pybind11) and those of akidb/codec (Cython; their Python twins work without them).
# Each appears in the build when its sources do.
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)

# Kernels with pages of 16 KiB (Raspberry Pi 5, Apple) and 64 KiB (RHEL, Jetson) map a segment of a module only where it is aligned
# to that; x86-64's linkers align to 4 KiB. Without a page between code and data of its own each, lest a module grow by 64 KiB a time.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  add_link_options(-Wl,-z,max-page-size=65536 -Wl,-z,noseparate-code)
endif()

if(EXISTS ${PROJECT_SOURCE_DIR}/csrc/bindings)
  find_package(pybind11 2.13 CONFIG REQUIRED)
  file(GLOB binding_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/bindings/*.cc)
  if(binding_sources)
    pybind11_add_module(_core MODULE ${binding_sources})
    target_link_libraries(_core PRIVATE akidb_calibration akidb_warnings)
    install(TARGETS _core DESTINATION akidb)
  endif()
endif()

foreach(name IN ITEMS _objects _strings)
  set(source ${PROJECT_SOURCE_DIR}/akidb/codec/${name}.pyx)
  if(EXISTS ${source})
    set(generated ${CMAKE_CURRENT_BINARY_DIR}/${name}.c)
    add_custom_command(
      OUTPUT ${generated}
      COMMAND ${Python_EXECUTABLE} -m cython -3 --output-file ${generated} ${source}
      DEPENDS ${source}
      COMMENT "Cython: akidb/codec/${name}.pyx"
      VERBATIM)
    Python_add_library(${name} MODULE WITH_SOABI ${generated})
    install(TARGETS ${name} DESTINATION akidb/codec)
  endif()
endforeach()

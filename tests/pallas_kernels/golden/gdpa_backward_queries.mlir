// 8 warps, 2 stages
module @gdpa_backward_queries {
  tt.func public @gdpa_backward_queries(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg6: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg7: !tt.ptr<bf16> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<1024> : tensor<128xi32>
    %cst_0 = arith.constant dense<5.000000e-01> : tensor<128x64xf32>
    %cst_1 = arith.constant dense<-1.000000e+00> : tensor<128x64xf32>
    %cst_2 = arith.constant dense<0.000000e+00> : tensor<128x64xf32>
    %cst_3 = arith.constant dense<0.000000e+00> : tensor<64x128xbf16>
    %cst_4 = arith.constant dense<128> : tensor<64x128xi32>
    %cst_5 = arith.constant dense<512> : tensor<64x128xi32>
    %cst_6 = arith.constant dense<131072> : tensor<64x128xi32>
    %cst_7 = arith.constant dense<0.000000e+00> : tensor<128x128xf32>
    %c63_i32 = arith.constant 63 : i32
    %cst_8 = arith.constant dense<0.000000e+00> : tensor<128x128xbf16>
    %cst_9 = arith.constant dense<128> : tensor<128x128xi32>
    %cst_10 = arith.constant dense<512> : tensor<128x128xi32>
    %cst_11 = arith.constant dense<524288> : tensor<128x128xi32>
    %cst_12 = arith.constant -5.000000e-01 : f32
    %cst_13 = arith.constant -1.500000e+00 : f32
    %cst_14 = arith.constant 0.0356774069 : f32
    %cst_15 = arith.constant 0.797884583 : f32
    %c64_i32 = arith.constant 64 : i32
    %c4_i32 = arith.constant 4 : i32
    %c128_i32 = arith.constant 128 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %c8_i32 = arith.constant 8 : i32
    %0 = tt.get_program_id x : i32
    %1 = arith.remui %0, %c8_i32 : i32
    %2 = tt.get_program_id y : i32
    %3 = tt.get_program_id z : i32
    %4 = tt.addptr %arg0, %3 : !tt.ptr<i32>, i32
    %5 = tt.load %4 : !tt.ptr<i32>
    %6 = tt.addptr %arg1, %3 : !tt.ptr<i32>, i32
    %7 = tt.load %6 : !tt.ptr<i32>
    %8 = arith.muli %3, %c4_i32 : i32
    %9 = arith.addi %8, %2 : i32
    %10 = tt.addptr %arg2, %9 : !tt.ptr<f32>, i32
    %11 = tt.load %10 : !tt.ptr<f32>
    %12 = arith.muli %1, %c128_i32 : i32
    %13 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %14 = tt.splat %12 : i32 -> tensor<128xi32>
    %15 = arith.addi %14, %13 : tensor<128xi32>
    %16 = tt.splat %5 : i32 -> tensor<128xi32>
    %17 = arith.cmpi slt, %15, %16 : tensor<128xi32>
    %18 = tt.expand_dims %17 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %19 = tt.broadcast %18 : tensor<128x1xi1> -> tensor<128x128xi1>
    %20 = tt.splat %3 : i32 -> tensor<128x128xi32>
    %21 = arith.muli %20, %cst_11 : tensor<128x128xi32>
    %22 = tt.expand_dims %15 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
    %23 = tt.broadcast %22 : tensor<128x1xi32> -> tensor<128x128xi32>
    %24 = arith.muli %23, %cst_10 : tensor<128x128xi32>
    %25 = arith.addi %21, %24 : tensor<128x128xi32>
    %26 = tt.splat %2 : i32 -> tensor<128x128xi32>
    %27 = arith.muli %26, %cst_9 : tensor<128x128xi32>
    %28 = arith.addi %25, %27 : tensor<128x128xi32>
    %29 = tt.expand_dims %13 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %30 = tt.broadcast %29 : tensor<1x128xi32> -> tensor<128x128xi32>
    %31 = arith.addi %28, %30 : tensor<128x128xi32>
    %32 = tt.splat %arg3 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %33 = tt.addptr %32, %31 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %34 = tt.load %33, %19, %cst_8 : tensor<128x128x!tt.ptr<bf16>>
    %35 = tt.splat %arg6 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %36 = tt.addptr %35, %31 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    %37 = tt.load %36, %19, %cst_8 : tensor<128x128x!tt.ptr<bf16>>
    %38 = arith.cmpi slt, %12, %5 : i32
    %39 = arith.addi %7, %c63_i32 : i32
    %40 = arith.divsi %39, %c64_i32 : i32
    %41 = arith.cmpi sgt, %39, %c0_i32 : i32
    %42 = arith.extui %41 : i1 to i32
    %43 = arith.cmpi slt, %39, %c0_i32 : i32
    %44 = arith.extui %43 : i1 to i32
    %45 = arith.subi %42, %44 : i32
    %46 = arith.cmpi ne, %45, %c1_i32 : i32
    %47 = arith.remsi %39, %c64_i32 : i32
    %48 = arith.cmpi ne, %47, %c0_i32 : i32
    %49 = arith.andi %46, %48 : i1
    %50 = arith.subi %40, %c1_i32 : i32
    %51 = arith.select %49, %50, %40 : i32
    %52 = arith.select %38, %51, %c0_i32 : i32
    %53 = scf.for %arg8 = %c0_i32 to %52 step %c1_i32 iter_args(%arg9 = %cst_7) -> (tensor<128x128xf32>)  : i32 {
      %62 = arith.muli %arg8, %c64_i32 : i32
      %63 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
      %64 = tt.splat %62 : i32 -> tensor<64xi32>
      %65 = arith.addi %64, %63 : tensor<64xi32>
      %66 = tt.splat %7 : i32 -> tensor<64xi32>
      %67 = arith.cmpi slt, %65, %66 : tensor<64xi32>
      %68 = tt.expand_dims %67 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
      %69 = tt.broadcast %68 : tensor<64x1xi1> -> tensor<64x128xi1>
      %70 = tt.splat %3 : i32 -> tensor<64x128xi32>
      %71 = arith.muli %70, %cst_6 : tensor<64x128xi32>
      %72 = tt.expand_dims %65 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
      %73 = tt.broadcast %72 : tensor<64x1xi32> -> tensor<64x128xi32>
      %74 = arith.muli %73, %cst_5 : tensor<64x128xi32>
      %75 = arith.addi %71, %74 : tensor<64x128xi32>
      %76 = tt.splat %2 : i32 -> tensor<64x128xi32>
      %77 = arith.muli %76, %cst_4 : tensor<64x128xi32>
      %78 = arith.addi %75, %77 : tensor<64x128xi32>
      %79 = tt.broadcast %29 : tensor<1x128xi32> -> tensor<64x128xi32>
      %80 = arith.addi %78, %79 : tensor<64x128xi32>
      %81 = tt.splat %arg4 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %82 = tt.addptr %81, %80 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %83 = tt.load %82, %69, %cst_3 : tensor<64x128x!tt.ptr<bf16>>
      %84 = tt.splat %arg5 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
      %85 = tt.addptr %84, %80 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
      %86 = tt.load %85, %69, %cst_3 : tensor<64x128x!tt.ptr<bf16>>
      %87 = tt.trans %83 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %88 = tt.dot %34, %87, %cst_2, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x64xbf16> -> tensor<128x64xf32>
      %89 = arith.mulf %11, %cst_15 : f32
      %90 = arith.mulf %11, %11 : f32
      %91 = arith.mulf %90, %11 : f32
      %92 = arith.mulf %91, %cst_14 : f32
      %93 = arith.mulf %88, %88 : tensor<128x64xf32>
      %94 = tt.splat %92 : f32 -> tensor<128x64xf32>
      %95 = tt.splat %89 : f32 -> tensor<128x64xf32>
      %96 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %93, %94, %95 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %97 = arith.mulf %88, %96 : tensor<128x64xf32>
      %98 = tt.elementwise_inline_asm "tanh.approx.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %97 : tensor<128x64xf32> -> tensor<128x64xf32>
      %99 = arith.mulf %92, %cst_13 : f32
      %100 = arith.mulf %89, %cst_12 : f32
      %101 = tt.splat %99 : f32 -> tensor<128x64xf32>
      %102 = tt.splat %100 : f32 -> tensor<128x64xf32>
      %103 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %93, %101, %102 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %104 = arith.mulf %88, %103 : tensor<128x64xf32>
      %105 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %98, %98, %cst_1 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %106 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %98, %cst_0, %cst_0 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %107 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %104, %105, %106 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %108 = tt.trans %86 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %109 = tt.dot %37, %108, %cst_2, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x64xbf16> -> tensor<128x64xf32>
      %110 = arith.mulf %107, %109 : tensor<128x64xf32>
      %111 = arith.truncf %110 : tensor<128x64xf32> to tensor<128x64xbf16>
      %112 = tt.dot %111, %83, %cst_7, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x128xbf16> -> tensor<128x128xf32>
      %113 = arith.addf %arg9, %112 : tensor<128x128xf32>
      scf.yield %113 : tensor<128x128xf32>
    }
    %54 = tt.splat %11 : f32 -> tensor<128x128xf32>
    %55 = arith.mulf %53, %54 : tensor<128x128xf32>
    %56 = arith.cmpi slt, %15, %cst : tensor<128xi32>
    %57 = tt.expand_dims %56 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
    %58 = tt.broadcast %57 : tensor<128x1xi1> -> tensor<128x128xi1>
    %59 = arith.truncf %55 : tensor<128x128xf32> to tensor<128x128xbf16>
    %60 = tt.splat %arg7 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
    %61 = tt.addptr %60, %31 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
    tt.store %61, %59, %58 : tensor<128x128x!tt.ptr<bf16>>
    tt.return
  }
}
